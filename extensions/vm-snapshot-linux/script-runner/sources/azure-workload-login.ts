/**
 * What `credString` of workload.conf becomes. Azure's extension puts it into the command line of the client as it is,
 * where every user of the machine can read it. Here it may lead to a file, and say what is no secret.
 */

/** Options of our script; undefined: it may hold a secret, or something that the script does not know. */
export type Login = readonly string[] | undefined;

/** `linux_user` is not the client's user where the credentials are root's. */
export function mysqlLogin(text: string, user: readonly string[]): Login {
	if (text === "") return user;
	const path = /^(?:--defaults-(?:extra-)?file=)?(\/\S+)$/.exec(text)?.[1];
	return path === undefined ? undefined : ["--credentials", path];
}

/** A path, or words of psql without a password. */
export function postgresLogin(text: string, user: readonly string[]): Login {
	if (/^\/\S+$/.test(text)) return ["--credentials", text];
	const options = [...user];
	const words = text.split(/\s+/).filter((word) => word !== "");
	for (let word = words.shift(); word !== undefined; word = words.shift()) {
		const [, long, short, rest] = /^(?:--(username|dbname|host|port)=|-([Udhp]))(\S*)$/.exec(word) ?? [];
		const option = psqlOptions[long ?? short ?? ""];
		const value = rest === "" ? words.shift() : rest;
		// A connection string may stand for the name of a database, and hold a password.
		if (option === undefined || value === undefined || !/^[\w./-]+$/.test(value) || value.startsWith("-"))
			return undefined;
		options.push(option === "--host" && value.startsWith("/") ? "--socket" : option, value);
	}
	return options;
}

const psqlOptions: Readonly<Record<string, string>> = {
	username: "--user",
	U: "--user",
	dbname: "--database",
	d: "--database",
	host: "--host",
	h: "--host",
	port: "--port",
	p: "--port",
};

/** The operating system vouches for linux_user; there is no other login. */
export function oracleLogin(text: string, user: readonly string[]): Login {
	const [, privilege] = /^(?:\/(?:\s+as\s+(sysbackup|sysdba))?)?$/i.exec(text) ?? [];
	if (privilege !== undefined) return [...user, "--privilege", privilege.toLowerCase()];
	return text === "" || text === "/" ? user : undefined;
}
