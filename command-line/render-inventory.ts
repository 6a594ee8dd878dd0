/** An agent's inventory for people: what it is, its disks by the names that an order takes, its file systems. */
import { z } from "zod";
import { type Cell, fields, type Page, table } from "./layout.ts";
import { humanBytes, humanTime } from "./output.ts";

const text = z.string().catch("").default("");
const bytes = z.number().catch(0).default(0);
const list = <S extends z.ZodType>(one: S) => z.array(one).catch([]).default([]);
/** Another version of the agent may tell other things, or leave some out: what is not understood is not shown. */
const inventorySchema = z.object({
	takenAt: text,
	system: z.object({ manufacturer: text, model: text }).catch({ manufacturer: "", model: "" }).optional(),
	operatingSystem: z
		.object({ hostname: text, distro: text, release: text, kernel: text, arch: text })
		.catch({ hostname: "", distro: "", release: "", kernel: "", arch: "" })
		.optional(),
	cpu: z.object({ brand: text, cores: bytes }).catch({ brand: "", cores: 0 }).optional(),
	memory: z.object({ totalBytes: bytes, swapTotalBytes: bytes }).catch({ totalBytes: 0, swapTotalBytes: 0 }).optional(),
	network: list(z.object({ iface: text, ip4: text, ip6: text, internal: z.boolean().catch(false).default(false) })),
	disks: list(
		z.object({
			name: text,
			sizeBytes: bytes,
			serial: text,
			mapperName: text,
			backingFile: text,
			partitionOf: z.string().optional(),
		}),
	),
	fileSystems: list(z.object({ mountPoint: text, fsType: text, source: text })),
	failed: z.record(z.string(), z.string()).catch({}).default({}),
});

export function renderInventory(inventory: Record<string, unknown>, page: Page): string {
	const found = inventorySchema.parse(inventory);
	const { system, operatingSystem: os, cpu, memory, failed } = found;
	const joined = (...words: (string | undefined)[]) => words.filter(Boolean).join(" ");
	const rows: [string, Cell][] = [
		["host", os?.hostname ?? ""],
		["system", joined(os?.distro, os?.release, os?.kernel && `kernel ${os.kernel}`, os?.arch)],
		["hardware", joined(system?.manufacturer, system?.model)],
		["cpu", cpu === undefined ? "" : joined(String(cpu.cores), "cores", cpu.brand)],
		[
			"memory",
			memory === undefined ? "" : `${humanBytes(memory.totalBytes)}, swap ${humanBytes(memory.swapTotalBytes)}`,
		],
		["network", addressesOf(found.network)],
		["taken", found.takenAt === "" ? "" : humanTime(found.takenAt)],
		...Object.entries(failed).map(([name, why]): [string, Cell] => [
			"not known",
			{ text: `${name}: ${why}`, tone: "warn" },
		]),
	];
	const disks = found.disks
		.filter(({ partitionOf, sizeBytes }) => partitionOf === undefined && sizeBytes > 0)
		.map(({ name, sizeBytes, serial, mapperName, backingFile }) => [
			name,
			humanBytes(sizeBytes),
			serial,
			mapperName || backingFile,
		]);
	return [
		fields(
			rows.filter(([, cell]) => cell !== ""),
			page,
		),
		section("Disks", [["name", "size", "serial", "mapper name, or file"], ...disks], page),
		section(
			"File systems",
			[
				["mount point", "type", "on"],
				...found.fileSystems.map(({ mountPoint, fsType, source }) => [mountPoint, fsType, source]),
			],
			page,
		),
	]
		.filter((part) => part !== "")
		.join("\n\n");
}

function addressesOf(network: z.output<typeof inventorySchema>["network"]): string {
	return network
		.filter(({ internal, ip4, ip6 }) => !internal && (ip4 !== "" || ip6 !== ""))
		.map(({ iface, ip4, ip6 }) => `${iface} ${[ip4, ip6].filter(Boolean).join(" ")}`)
		.join(", ");
}

function section(title: string, rows: string[][], page: Page): string {
	return rows.length < 2 ? "" : `${title}\n${table(rows, { page, indent: 2, head: true })}`;
}
