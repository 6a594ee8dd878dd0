/** The process of the write probe: it may hang for ever in a write, so that its parent does not. */
import { answerMarkerRequest } from "../../platform/linux/marker-files.ts";

await answerMarkerRequest(process.stdin, process.stdout);
