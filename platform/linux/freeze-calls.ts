import { readFileSync, writeFileSync } from "node:fs";
import { getSystemErrorName } from "node:util";

/** How a system call ended: undefined is success, else the name of its errno. */
export type CallError = string | undefined;

/** Calls on an open file descriptor. Each runs on a thread of the libuv pool, and may take as long as the kernel likes. */
export type FreezeCalls = {
	/** FIFREEZE. EBUSY: it is frozen already, by us or by another. EOPNOTSUPP: it can't be frozen. Can't be aborted. */
	freeze(fd: number): Promise<CallError>;
	/** FITHAW. Success proves that it was frozen until now; EINVAL: it was not. Hangs while a lower layer is frozen. */
	thaw(fd: number): Promise<CallError>;
	/** Writes out all dirty data of the file system. Hangs while it, or a lower layer, is frozen. */
	sync(fd: number): Promise<CallError>;
	/**
	 * Whether the file system is frozen, without a change of that: a remount with no changes is tried, which the
	 * kernel refuses with EBUSY while frozen. When it is not frozen, ext4 logs "re-mounted" and takes about 20 ms.
	 */
	probeFrozen(fd: number): Promise<"frozen" | "not-frozen" | { readonly error: string }>;
	/** Size of the file that a loop device's status names: see `LoopStatus`. */
	readLoopStatus(fd: number): Promise<LoopStatus | { readonly error: string }>;
};

/** The file behind a loop device, as the kernel knows it; `dev` is the `st_dev` and `ino` the `st_ino` of that file. */
export type LoopStatus = { readonly dev: bigint; readonly ino: bigint };

/** Calls about this process itself; short, so they run at once. */
export type ProcessCalls = {
	/**
	 * Keeps the program's pages in memory: mlock of the file-backed mappings only. Not mlockall: that kills V8.
	 * Returns the bytes pinned; what the kernel refuses is left out.
	 */
	pinProgram(): number;
	/** Undoes `pinProgram`: the pages stay for as long as nobody needs the memory. */
	unpinProgram(): void;
	/** No core dump of this process, to a file or to a handler: a dump onto a frozen disk makes SIGKILL wait. */
	forbidCoreDumps(): CallError;
};

// linux/fs.h: _IOWR('X', 119, int), _IOWR('X', 120, int); the same on every architecture that Node supports.
const FIFREEZE = 0xc0045877;
const FITHAW = 0xc0045878;
// linux/loop.h: LOOP_GET_STATUS64; struct loop_info64 begins with lo_device, lo_inode (two u64).
const LOOP_GET_STATUS64 = 0x4c05;
const LOOP_INFO64_BYTES = 232;
// asm-generic/unistd.h and asm/unistd_64.h agree since these numbers are above 424.
const SYS_FSCONFIG = 431;
const SYS_FSPICK = 433;
const FSPICK_CLOEXEC = 1;
const FSPICK_EMPTY_PATH = 8;
const FSCONFIG_CMD_RECONFIGURE = 7;
/** Calls that may wait for a thread; more are not made, and answer EAGAIN. A freezer of 500 file systems makes 1000. */
const MAX_CALLS = 2048;
/** Calls whose memory stays mapped between two of them; koffi allows no more. */
const MAX_RESIDENT_CALLS = 32;
const notCalled = { value: -1, error: "EAGAIN" };
const RLIMIT_CORE = 4;
const PR_SET_DUMPABLE = 4;

/**
 * Loads the C library's functions. Blocked calls each hold a thread of the pool: the process must be started with
 * UV_THREADPOOL_SIZE of at least two for each file system, and some more.
 */
export async function loadFreezeCalls(): Promise<FreezeCalls> {
	const { default: koffi } = await import("koffi");
	raiseCallLimit(koffi);
	const library = koffi.load(null);
	const ioctl = library.func("int ioctl(int fd, unsigned long request, void *argument)");
	const syncfs = library.func("int syncfs(int fd)");
	const fspick = library.func("syscall", "long", ["long", "int", "str", "unsigned int"]);
	const fsconfig = library.func("syscall", "long", ["long", "int", "unsigned int", "void *", "void *", "int"]);
	const close = library.func("int close(int fd)");

	/** `koffi.errno()` is the errno of the call only while its callback runs. */
	function call(native: typeof ioctl, ...args: unknown[]): Promise<{ value: number; error: CallError }> {
		return new Promise((resolve) => {
			try {
				native.async(...args, (failure: unknown, value: number) => {
					if (failure) resolve(notCalled);
					else resolve({ value, error: value < 0 ? getSystemErrorName(-koffi.errno()) : undefined });
				});
			} catch {
				resolve(notCalled);
			}
		});
	}

	return {
		freeze: async (fd) => (await call(ioctl, fd, FIFREEZE, null)).error,
		thaw: async (fd) => (await call(ioctl, fd, FITHAW, null)).error,
		sync: async (fd) => (await call(syncfs, fd)).error,
		probeFrozen: async (fd) => {
			const picked = await call(fspick, SYS_FSPICK, fd, "", FSPICK_EMPTY_PATH | FSPICK_CLOEXEC);
			if (picked.error !== undefined) return { error: picked.error };
			const { error } = await call(fsconfig, SYS_FSCONFIG, picked.value, FSCONFIG_CMD_RECONFIGURE, null, null, 0);
			close(picked.value);
			if (error === undefined) return "not-frozen";
			return error === "EBUSY" ? "frozen" : { error };
		},
		readLoopStatus: async (fd) => {
			const info = Buffer.alloc(LOOP_INFO64_BYTES);
			const { error } = await call(ioctl, fd, LOOP_GET_STATUS64, info);
			return error === undefined ? { dev: info.readBigUInt64LE(0), ino: info.readBigUInt64LE(8) } : { error };
		},
	};
}

export async function loadProcessCalls(): Promise<ProcessCalls> {
	const { default: koffi } = await import("koffi");
	raiseCallLimit(koffi);
	const library = koffi.load(null);
	const mlock = library.func("int mlock(uintptr_t address, size_t length)");
	const munlockall = library.func("int munlockall()");
	const setrlimit = library.func("int setrlimit(int resource, void *limit)");
	const prctl = library.func("prctl", "int", [
		"int",
		"unsigned long",
		"unsigned long",
		"unsigned long",
		"unsigned long",
	]);
	return {
		pinProgram() {
			let pinnedBytes = 0;
			for (const { start, end } of parseFileMappings(readFileSync("/proc/self/maps", "latin1")))
				if (mlock(start, end - start) === 0) pinnedBytes += Number(end - start);
			return pinnedBytes;
		},
		unpinProgram: () => void munlockall(),
		forbidCoreDumps() {
			// A limit of 0 does not stop a core_pattern that is a pipe; not being dumpable does.
			if (setrlimit(RLIMIT_CORE, Buffer.alloc(16)) !== 0) return getSystemErrorName(-koffi.errno());
			if (prctl(PR_SET_DUMPABLE, 0n, 0n, 0n, 0n) !== 0) return getSystemErrorName(-koffi.errno());
			return undefined;
		},
	};
}

/** Possible only before koffi has loaded a library; who comes later lives with the limit that there is. */
function raiseCallLimit(koffi: typeof import("koffi").default): void {
	if ((koffi.config().max_async_calls ?? 0) >= MAX_CALLS) return;
	try {
		koffi.config({ max_async_calls: MAX_CALLS, resident_async_pools: MAX_RESIDENT_CALLS });
	} catch {
		// A library was loaded before.
	}
}

/** The readable mappings of /proc/PID/maps that a file on a disk is behind. */
export function parseFileMappings(text: string): { start: bigint; end: bigint }[] {
	return text.split("\n").flatMap((line) => {
		const match = /^([0-9a-f]+)-([0-9a-f]+) r\S+ \S+ \S+ (\d+)\s+\//.exec(line);
		if (match === null || match[3] === "0") return [];
		return [{ start: BigInt(`0x${match[1]}`), end: BigInt(`0x${match[2]}`) }];
	});
}

/** The OOM killer takes this process last. Returns the errno when it is not allowed to. */
export function setOomScore(score: number): CallError {
	try {
		writeFileSync("/proc/self/oom_score_adj", String(score));
		return undefined;
	} catch (error) {
		return (error as NodeJS.ErrnoException).code ?? "UNKNOWN";
	}
}
