/**
 * Files that handlers write for their host, read tolerantly: others wrote the programs. The host's own files are
 * written by the strict schemas of `extension.ts`.
 */
import { z } from "zod";

const word = z.string().transform((text) => text.toLowerCase());
const statusWord = word.pipe(z.enum(["transitioning", "success", "warning", "error"]));
const code = z.union([
	z.int(),
	z
		.string()
		.regex(/^-?\d{1,9}$/)
		.transform(Number),
]);
const formattedMessage = z
	.object({ lang: z.string().default("en-US"), message: z.string().default("") })
	.nullish()
	.transform((found) => found?.message ?? "");

const readSubstatusSchema = z.object({
	name: z
		.string()
		.nullish()
		.transform((text) => text ?? ""),
	status: statusWord,
	code: code.nullish().transform((number) => number ?? 0),
	formattedMessage,
});

/** Only element 0 of a status file is read. */
export const readStatusFileSchema = z
	.array(z.unknown())
	.min(1)
	.transform((all) => all[0])
	.pipe(
		z.object({
			timestampUTC: z.string().nullish(),
			status: z.object({
				operation: z.string().nullish(),
				status: statusWord,
				code: code.nullish().transform((number) => number ?? 0),
				formattedMessage,
				substatus: z
					.array(readSubstatusSchema)
					.nullish()
					.transform((all) => all ?? []),
			}),
		}),
	);

export const heartbeatFileSchema = z
	.array(z.unknown())
	.min(1)
	.transform((all) => all[0])
	.pipe(
		z.object({
			heartbeat: z.object({ status: word, code: code.nullish(), formattedMessage, message: z.string().nullish() }),
		}),
	);

/** An event that a handler drops into its events folder. All fields are required, as Azure requires them. */
export const handlerEventSchema = z.object({
	Version: z.string(),
	Timestamp: z.string(),
	TaskName: z.string(),
	EventLevel: z.string(),
	Message: z.string(),
	EventPid: z.coerce.string(),
	EventTid: z.coerce.string(),
	OperationId: z.string(),
});
export type HandlerEvent = z.infer<typeof handlerEventSchema>;

/** Azure's codes of what went wrong with a handler. */
export const handlerErrorCodes = {
	unknown: -1,
	install: 1007,
	update: 1008,
	enable: 1009,
	disable: 1010,
	timeout: 1011,
	statusInvalid: 1012,
} as const;
