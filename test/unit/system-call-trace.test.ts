import { expect, test } from "vitest";
import { findWindow, findWrites, parseTrace } from "../fixtures/system-call-trace.ts";

const trace = `
101 1700000000.100000 write(17</m/log/agent.log>, "a", 1) = 1
102 1700000000.200000 ioctl(20</m>, FIFREEZE, NULL) = 0
101 1700000000.300000 write(5<socket:[1]>, "b", 1) = 1
101 1700000000.310000 openat(AT_FDCWD</>, "/m/dist/a.mjs", O_RDONLY|O_CLOEXEC) = 6</m/dist/a.mjs>
101 1700000000.320000 openat(AT_FDCWD</>, "/m/log/agent.log", O_WRONLY|O_CREAT|O_APPEND, 0600 <unfinished ...>
101 1700000000.330000 mkdir("/m/state", 0700) = -1 EEXIST (File exists)
101 1700000000.340000 write(17</m/log/agent.log>, "c", 1 <unfinished ...>
102 1700000000.400000 ioctl(20</m>, FITHAW, NULL) = 0
101 1700000000.500000 fdatasync(17</m/log/agent.log>) = 0
`;

test("only what may write below the folder inside the window is found", () => {
	const calls = parseTrace(trace);
	const window = findWindow(calls);
	expect(window).toEqual({ from: 1700000000.2, until: 1700000000.4 });
	const found = findWrites(calls, "/m", window ?? { from: 0, until: 0 });
	expect(found.map((line) => line.slice(22).split("(")[0]?.trim())).toEqual(["openat", "mkdir", "write"]);
});

test("a trace without a freeze has no window", () => {
	expect(findWindow(parseTrace("101 1700000000.100000 read(3, 4) = 1"))).toBeUndefined();
});
