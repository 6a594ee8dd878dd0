# Turns the inside of a JSON text, one line, into what it stands for.
{
	rest = $0
	while (match(rest, /\\./)) {
		printf "%s", substr(rest, 1, RSTART - 1)
		escape = substr(rest, RSTART + 1, 1)
		rest = substr(rest, RSTART + 2)
		if (escape == "u") {
			code = hex(substr(rest, 1, 4))
			rest = substr(rest, 5)
			if (code >= 55296 && code < 56320 && substr(rest, 1, 2) == "\\u") {
				code = 65536 + (code - 55296) * 1024 + hex(substr(rest, 3, 4)) - 56320
				rest = substr(rest, 7)
			}
			printf "%s", utf8(code)
		} else if (escape == "n") printf "\n"
		else if (escape == "t") printf "\t"
		else if (escape == "r") printf "\r"
		else if (escape == "b") printf "\b"
		else if (escape == "f") printf "\f"
		else printf "%s", escape
	}
	printf "%s", rest
}
function hex(digits,  at, number) {
	number = 0
	for (at = 1; at <= length(digits); at++)
		number = number * 16 + index("0123456789abcdef", tolower(substr(digits, at, 1))) - 1
	return number
}
function utf8(code) {
	if (code < 128) return sprintf("%c", code)
	if (code < 2048) return octets(192 + int(code / 64), 128 + code % 64)
	if (code < 65536) return octets(224 + int(code / 4096), 128 + int(code / 64) % 64, 128 + code % 64)
	return octets(240 + int(code / 262144), 128 + int(code / 4096) % 64, 128 + int(code / 64) % 64, 128 + code % 64)
}
function octets(a, b, c, d) {
	return sprintf("%c%c", a, b) (c == "" ? "" : sprintf("%c", c)) (d == "" ? "" : sprintf("%c", d))
}
