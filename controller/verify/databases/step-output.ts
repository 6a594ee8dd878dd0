/** Name of a step of a check script, with its exit status and what it said. */
export type Steps = ReadonlyMap<string, { exitCode: number; output: string }>;

/** The shell function that check scripts tell of their steps with; $mark is a word that nobody else knows. */
export const stepFunction = `step() {
	name=$1; shift
	echo "$mark begin $name"
	"$@" 2>&1
	code=$?
	echo; echo "$mark end $name $code"
	return "$code"
}`;

/** A step that did not end (its process was killed) is not in the answer. */
export function parseSteps(output: string, mark: string): Steps {
	const steps = new Map<string, { exitCode: number; output: string }>();
	let begun: { name: string; lines: string[] } | undefined;
	for (const line of output.split("\n")) {
		const [first, what, name = "", code] = line.split(" ");
		if (first !== mark) begun?.lines.push(line);
		else if (what === "begin") begun = { name, lines: [] };
		else if (begun?.name === name) {
			steps.set(name, { exitCode: Number(code), output: begun.lines.join("\n").trim() });
			begun = undefined;
		}
	}
	return steps;
}
