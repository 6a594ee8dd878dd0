import { describe, expect, test } from "vitest";
import { isSecretName, makeRedact, redacted } from "../../command-line/diagnose/redact.ts";
import { countSecrets } from "../../command-line/diagnose/write-bundle.ts";

const { text, value } = makeRedact([]);
const secret = "hunter2-Xq9";

describe("a name that sounds like a secret", () => {
	test.each(
		"password dbPassword DB_PASSWORD mypassword PGPASSWORD token accessToken X-Auth-Token key AccountKey account_key sas sasUri sig secret clientSecret credentials Authorization Set-Cookie passphrase private-key protectedSettings pass db_pass smtpPass requirepass masterauth REDISCLI_AUTH bindpw wpa_psk dsn ConnectionString sshkey".split(
			" ",
		),
	)("%s", (name) => {
		expect(isSecretName(name)).toBe(true);
	});
	test.each(
		"monkeys level mountPoint keyboard design sasquatch holdLimitCapMs passed hookDeadlineMs bypass compass author pin".split(
			" ",
		),
	)("is not %s", (name) => {
		expect(isSecretName(name)).toBe(false);
	});
});

describe("a text loses", () => {
	const pem = `-----BEGIN RSA PRIVATE KEY-----\n${secret}\nabc\n-----END RSA PRIVATE KEY-----`;
	test.each([
		["a key block", pem],
		["one whose line ends are escaped", pem.replaceAll("\n", "\\n")],
		["one that was cut off", `failed: ${pem.slice(0, 50)}`],
		["the user of an address", `see https://bob:${secret}@db.example/x`],
		["a password with strange signs", `see https://bob:a/b?c#${secret}@db.example/x`],
		["the query of an address", `GET https://blob.example/disk?sv=1&sig=${secret}&se=2 failed`],
		["the password of a share", `//bob:${secret}@nas/share`],
		["a bearer token", `authorized by Bearer ${secret}`],
		["a header to its end", `Authorization: Negotiate x ${secret}`],
		["cookies to the end of the line", `Cookie: a=b; session=${secret}`],
		["an assignment", `PGPASSWORD=${secret} psql`],
		["one with a colon", `password: ${secret}`],
		["one in quotes with blanks", `db_password = "a b ${secret} c"`],
		["a field of JSON", `{"user":"bob","password":"${secret}"}`],
		["a field of JSON in JSON", JSON.stringify(JSON.stringify({ password: `a"b ${secret}` }))],
		["an option and its value", `--password ${secret} --host db`],
		["an option with =", `--db-token=${secret}`],
		["a connection string", `DefaultEndpointsProtocol=https;AccountKey=${secret};EndpointSuffix=x`],
		["a name in a name with dots", `spring.datasource.password=${secret}`],
		["a name after an escaped line end", JSON.stringify(`x\nPASSWORD=${secret}`)],
		["a short option of a client", `mysql -uroot -p${secret} -e x`],
		["one with a blank", `sshpass -p ${secret} ssh x`],
		["one of Redis", `/usr/bin/redis-cli -h db -a ${secret} ping`],
		["a user with its password", `curl -s -u "bob:${secret}" https://x/`],
		["a login without a scheme", `bob:${secret}@db.example`],
		["a login of Go", `root:${secret}@tcp(127.0.0.1:3306)/x`],
		["a login of Oracle", `sqlplus -s system/${secret}@orcl`],
		["a statement of SQL", `CREATE USER x IDENTIFIED WITH caching_sha2_password BY '${secret}'`],
		["another", `ALTER ROLE x PASSWORD '${secret}'`],
		["a line of Redis's configuration", `requirepass ${secret}`],
		["a token of three parts", `eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.${secret}`],
	])("%s", (_what, given) => {
		expect(given).toContain(secret);
		expect(text(given)).not.toContain(secret);
		expect(text(given)).toContain(redacted);
	});

	test.each(["AKIAIOSFODNN7EXAMPLE", `ghp_${"a1".repeat(18)}`, "glpat-abcdefghij0123456789", "xoxb-12345-abcdefghij"])(
		"the token %s",
		(one) => expect(text(`x ${one} y`)).toBe(`x ${redacted} y`),
	);

	// What scripts print may be anything: hours for a bundle would be no bundle. Seconds here tell of squares.
	test.each([
		"a.",
		"pass",
		"a:",
		"mysql ",
		"-p ",
		"x_pass ",
		"sqlplus a/",
		"password '",
		"http://",
		"//a:",
		"eyJ-",
		"=_",
	])("what it has to within seconds, of many %j", (one) => void text(one.repeat(50_000)), 10_000);

	test("what looks encoded, with and without slashes", () => {
		for (const one of [
			"QWxhZGRpbjpvcGVuIHNlc2FtZSBhbmQgbW9yZSB0aGFuIHRoYXQ9",
			"3q2+7wAB/CDefGhIjKlMnOpQrStUvWxYz0123456789ab==",
			"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
		])
			expect(text(`x ${one} y`)).toBe(`x ${redacted} y`);
	});
});

test("what an admin needs to read stays", () => {
	for (const one of [
		"2026-11-20T16:13:53.012Z info  [job] phase jobId=check-0f8fad5b-d9cb-469f-a165-70867728950e phase=frozen",
		"/var/lib/stillpoint-test-Agent1-abcdefgh/state/extensions/VMSnapshotLinux-1.0/config/HandlerState",
		"25 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard",
		"https://controller.example:7443/v1/agents",
		"the file cannot be read (ENOENT): open '/etc/stillpoint/agent.json'",
		"level: file-system, held 3.2 ms",
	])
		expect(text(one)).toBe(one);
});

test("documents lose the values of secret names at every depth, and of secret options", () => {
	expect(
		value({
			a: [{ clientSecret: { deep: secret }, hasPassword: true, token: null, pin: 1 }],
			command: ["/opt/x", "--password", secret, `--token=${secret}`, "--host", "db"],
			[`https://u:${secret}@h/`]: 1,
		}),
	).toEqual({
		a: [{ clientSecret: redacted, hasPassword: true, token: null, pin: 1 }],
		command: ["/opt/x", "--password", redacted, `--token=${redacted}`, "--host", "db"],
		[`https://${redacted}@h/`]: 1,
	});
});

test("words of a command lose the passwords behind short options of known clients, and of no others", () => {
	expect(
		value([
			["/usr/bin/mysql", "-uroot", `-p${secret}`, "-P", "3306"],
			["redis-cli", "-a", secret, "-h", "db"],
			["sshpass", "-p", secret, "ssh"],
			["curl", "-u", `bob:${secret}`],
			["psql", "-p", "5432"],
			["mysql", "-p", "-e", "x"],
		]),
	).toEqual([
		["/usr/bin/mysql", "-uroot", `-p${redacted}`, "-P", "3306"],
		["redis-cli", "-a", redacted, "-h", "db"],
		["sshpass", "-p", redacted, "ssh"],
		["curl", "-u", `bob:${redacted}`],
		["psql", "-p", "5432"],
		["mysql", "-p", "-e", "x"],
	]);
});

test("what is known to be a secret is taken out whatever it looks like, and the longer one first", () => {
	const known = makeRedact(["plain", "plain words"]);
	expect(known.text("say plain words and plain")).toBe(`say ${redacted} and ${redacted}`);
	expect(known.value({ said: "plain words" })).toEqual({ said: redacted });
});

test("the last look finds a secret as it is, in JSON and in an address", () => {
	const odd = 'a"b/c d';
	expect(countSecrets(Buffer.from(`x ${odd} y`), [odd])).toBe(1);
	expect(countSecrets(Buffer.from(JSON.stringify({ odd })), [odd])).toBe(1);
	expect(countSecrets(Buffer.from(encodeURIComponent(odd)), [odd])).toBe(1);
	expect(countSecrets(Buffer.from("nothing"), [odd, "other"])).toBe(0);
});

test("a long run of blanks after a word of SQL is soon read", () => {
	const blanks = " ".repeat(200_000);
	const said = `password${blanks}x identified${blanks}y requirepass${blanks}z`;
	// Without a bound this outlasts the limit of any test.
	expect(text(said)).toBe(said);
	expect(text("requirepass hunter2")).toBe(`requirepass ${redacted}`);
});
