# Prints every scalar of one JSON document as a line: PATH, TAB, type (text, number, word), TAB, value. Keys and texts
# keep their JSON escapes, so that a line is a line. Exit status 1 for what is no JSON.
{ text = text $0 "\n" }
END {
	at = 1
	value("")
	blank()
	if (at <= length(text)) wrong()
	printf "%s", lines
}
function wrong() { exit 1 }
function here() { return substr(text, at, 1) }
function blank() { while (here() ~ /[ \t\r\n]/ && at <= length(text)) at++ }
function join(path, key) { return path == "" ? key : path "." key }
function take(what) { if (substr(text, at, length(what)) != what) wrong(); at += length(what) }
function print_line(path, type, found) { lines = lines path "\t" type "\t" found "\n" }
function value(path) {
	blank()
	if (here() == "{") return object(path)
	if (here() == "[") return list(path)
	if (here() == "\"") return print_line(path, "text", string())
	if (match(substr(text, at), /^-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?/)) return print_line(path, "number", token())
	if (match(substr(text, at), /^(true|false|null)/)) return print_line(path, "word", token())
	wrong()
}
function token(  found) { found = substr(text, at, RLENGTH); at += RLENGTH; return found }
function string(  from, character) {
	take("\"")
	from = at
	for (;;) {
		character = here()
		if (character == "" || character ~ /[\n\t\r]/) wrong()
		if (character == "\"") break
		at += character == "\\" ? 2 : 1
	}
	at++
	return substr(text, from, at - from - 1)
}
function object(path,  key) {
	take("{")
	blank()
	if (here() == "}") { at++; return }
	for (;;) {
		blank()
		key = string()
		blank()
		take(":")
		value(join(path, key))
		blank()
		if (here() == "}") { at++; return }
		take(",")
	}
}
function list(path,  index_of) {
	take("[")
	blank()
	if (here() == "]") { at++; return }
	for (index_of = 0; ; index_of++) {
		value(join(path, index_of))
		blank()
		if (here() == "]") { at++; return }
		take(",")
	}
}
