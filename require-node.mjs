/**
 * Says what is wrong when the sources meet a Node that cannot run them. Plain JavaScript of every Node's age.
 * On x64 Linux `npm ci` brings the right Node along, and npm scripts and npx find it first.
 */
const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);

export const nodeIsNewEnough = major > 24 || (major === 24 && minor >= 12);

if (!nodeIsNewEnough) {
	process.stderr.write(
		`Stillpoint needs Node.js 24.12 or newer; this is ${process.version}.\n` +
			"Run `npm ci` first, then `npm run ...` or `npx stillpoint`: on x64 Linux they bring the right Node along.\n" +
			"On other machines install Node.js 24 yourself.\n",
	);
	process.exitCode = 69;
}
