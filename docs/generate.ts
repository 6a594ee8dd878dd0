/** `npm run docs`: writes every generated page. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { generateDocuments } from "./generate-documents.ts";

for (const { path, text } of generateDocuments()) writeFileSync(join(import.meta.dirname, "..", path), text);
