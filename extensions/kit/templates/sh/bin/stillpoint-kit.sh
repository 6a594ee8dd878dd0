# What a handler in shell needs to follow Azure's handler contract. Needs sh, awk, sed, openssl and setsid.
# A handler sources this, defines on_install, on_enable, on_job, on_disable, on_update or on_uninstall, and ends with
# run_handler "$@". Inside of on_enable and on_job:
#   setting NAME    prints a public setting        secret NAME   prints a protected setting, decrypted
#   type_of NAME    text, number, word or nothing  say MESSAGE   the message of the status
#   fail MESSAGE    an error in the status, and out  log LINE    a line in the handler's log
# once=yes: the work of one sequence number is done once. No secret may be given to a program on its command line.
set -u
umask 077
# Texts are bytes here: awk counts them as they are.
export LC_ALL=C
kit_folder=$(cd "$(dirname "$0")" && pwd) || exit 1
package_folder=$(dirname "$kit_folder")
cd "$package_folder" || exit 1
once=no
grace_seconds=10
said=
sequence=
secret_lines=
public_lines=
tab=$(printf '\t')

for name in install enable job disable update uninstall; do eval "on_$name() { :; }"; done

json_lines() { awk -f "$kit_folder/json-lines.awk"; }

# The value at a path of lines that json_lines printed (on stdin), without its escapes.
value_at() {
	WANTED=$1 awk -F '\t' '$1 == ENVIRON["WANTED"] { print substr($0, length($1) + length($2) + 3); exit }' |
		awk -f "$kit_folder/json-text.awk"
}
setting() { printf '%s\n' "$public_lines" | value_at "$1"; }
secret() { printf '%s\n' "$secret_lines" | value_at "$1"; }
type_of() { printf '%s\n' "$public_lines" | WANTED=$1 awk -F '\t' '$1 == ENVIRON["WANTED"] { print $2; exit }'; }

say() { said=$1; }
log() { printf '%s %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$1" >>"$log_folder/handler.log" || :; }

fail() {
	[ -z "$sequence" ] || write_status error "${2:-1009}" "$1"
	log "$command_name failed: $1"
	printf '%s\n' "$1" >&2
	exit 1
}

# The text as the inside of a JSON text.
json_escaped() {
	printf '%s' "$1" | sed 's/\\/\\\\/g; s/"/\\"/g' |
		awk '{ gsub(/[\001-\037]/, " "); printf "%s%s", (NR > 1 ? "\\n" : ""), $0 }'
}

# write_status STATE CODE MESSAGE: beside and renamed, so that no host ever reads half of it.
write_status() {
	status_file=$status_folder/$prefix$sequence.status
	mkdir -p "$status_folder" &&
		printf '[{"version":"1.0","timestampUTC":"%s","status":{"name":"%s","operation":"%s","status":"%s","code":%d,"formattedMessage":{"lang":"en-US","message":"%s"},"substatus":[]}}]' \
			"$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$handler_name" "$command_name" "$1" "$2" "$(json_escaped "$3")" \
			>"$status_file.new" && mv "$status_file.new" "$status_file" && return
	printf 'the status cannot be written: %s\n' "$status_file" >&2
	exit 1
}

read_environment() {
	environment=$(json_lines <HandlerEnvironment.json) || { echo "HandlerEnvironment.json is no JSON" >&2; exit 1; }
	environment_field() { printf '%s\n' "$environment" | value_at "0.$1"; }
	handler_name=$(environment_field name)
	status_folder=$(environment_field handlerEnvironment.statusFolder)
	config_folder=$(environment_field handlerEnvironment.configFolder)
	log_folder=$(environment_field handlerEnvironment.logFolder)
	case ${ConfigExtensionName:-} in
	'') prefix= ;;
	.* | *[!A-Za-z0-9._-]*) echo "ConfigExtensionName is no name for a file" >&2; exit 1 ;;
	*) prefix=$ConfigExtensionName. ;;
	esac
}

read_settings() {
	sequence=${ConfigSequenceNumber:-}
	if [ -z "$sequence" ]; then
		newest=$(ls -t "$config_folder" | sed -n "s/^$prefix\\([0-9]\\{1,10\\}\\)\\.settings\$/\\1/p" | sed 1q)
		sequence=${newest:-0}
	fi
	case $sequence in *[!0-9]*) sequence=; fail "ConfigSequenceNumber is no number" ;; esac
	settings_file=$config_folder/$prefix$sequence.settings
	[ ! -e "$settings_file" ] || [ -f "$settings_file" ] || fail "$settings_file is not a regular file"
	# An empty 0.settings, or none, means that there are no settings. Else a host may be writing: read again.
	[ -s "$settings_file" ] || [ "$sequence" != 0 ] || return 0
	tries=0
	until lines=$(json_lines <"$settings_file"); do
		tries=$((tries + 1))
		[ "$tries" -lt 20 ] || fail "$settings_file is no JSON"
		sleep 0.1 2>/dev/null || sleep 1
	done
	at=runtimeSettings.0.handlerSettings
	public_text=$(printf '%s\n' "$lines" | value_at $at.publicSettings)
	if [ -n "$public_text" ] && [ "$public_text" != null ]; then
		public_lines=$(printf '%s' "$public_text" | json_lines) || fail "$settings_file: publicSettings is no JSON"
	else
		public_lines=$(printf '%s\n' "$lines" | sed -n "s/^$at\\.publicSettings\\.//p")
	fi
	sealed=$(printf '%s\n' "$lines" | value_at $at.protectedSettings)
	if [ -n "$sealed" ] && [ "$sealed" != null ]; then
		thumbprint=$(printf '%s\n' "$lines" | value_at $at.protectedSettingsCertThumbprint)
		case $thumbprint in '' | *[!0-9A-Fa-f]*) fail "$settings_file: protectedSettingsCertThumbprint is no thumbprint" ;; esac
		keys=$(dirname "$package_folder")
		secret_lines=$(printf '%s' "$sealed" | openssl base64 -d -A |
			openssl cms -decrypt -inform DER -inkey "$keys/$thumbprint.prv" -recip "$keys/$thumbprint.crt" 2>/dev/null |
			json_lines) && [ -n "$secret_lines" ] || fail "$settings_file: protectedSettings cannot be decrypted"
	fi
}

started_at() { sed 's/^.*) //' "/proc/$1/stat" 2>/dev/null | awk '$1 != "Z" { print $20 }'; }

# job_file: PID START SEQUENCE. A process is known by both, as ids are used again.
job_lives() {
	[ -f "$1" ] && read -r job_pid job_start job_sequence <"$1" && [ "$(started_at "$job_pid")" = "$job_start" ]
}

end_job() {
	if job_lives "$1"; then
		kill -TERM -- "-$job_pid" 2>/dev/null
		waited=0
		while job_lives "$1" && [ "$waited" -lt $((grace_seconds * 10)) ]; do
			waited=$((waited + 1))
			sleep 0.1 2>/dev/null || { sleep 1; waited=$((waited + 9)); }
		done
		kill -KILL -- "-$job_pid" 2>/dev/null
		prefix=$(basename "$1" | sed 's/job\.pid$//')
		sequence=$job_sequence
		if is_transitioning; then write_status error 1010 "ended by $command_name before it was done"; fi
		sequence=
	fi
	rm -f "$1"
}
end_jobs() { for job_file in ./*job.pid; do [ ! -f "$job_file" ] || end_job "$job_file"; done; }

is_transitioning() { grep -q '"status":"transitioning"' "$status_folder/$prefix$sequence.status" 2>/dev/null; }

enable() {
	read_settings
	job_file=./${prefix}job.pid
	if job_lives "$job_file"; then
		[ "$job_sequence" != "$sequence" ] || { echo "the job of sequence number $sequence runs already"; return; }
		wanted=$sequence
		end_job "$job_file"
		sequence=$wanted
	fi
	if [ $once = yes ] && [ "$(cat "${prefix}mrseq" 2>/dev/null)" = "$sequence" ]; then
		if [ -f "$status_folder/$prefix$sequence.status" ] && ! is_transitioning; then
			echo "sequence number $sequence is done already"
			return
		fi
		write_status error 1009 "sequence number $sequence was begun before and did not end; it is not begun twice"
		return
	fi
	write_status transitioning 0 enabling
	printf %s "$sequence" >"${prefix}mrseq.new" && mv "${prefix}mrseq.new" "${prefix}mrseq" || fail "mrseq cannot be written"
	on_enable || fail "${said:-enable failed}"
	if grep -q '^on_job()' "$0"; then
		write_status transitioning 0 "${said:-the job begins}"
		ConfigSequenceNumber=$sequence setsid "$0" job </dev/null >>"$log_folder/job-output.log" 2>&1 &
		printf '%s %s %s\n' $! "$(started_at $!)" "$sequence" >"$job_file"
		echo "the job was started"
	else
		write_status success 0 "${said:-enabled}"
	fi
}

# Hosts take silence for death: transitioning is told again every minute, until the work is done.
job() {
	read_settings
	(
		trap 'kill $! 2>/dev/null; exit 0' TERM
		while :; do
			sleep 60 &
			wait $!
			if is_transitioning; then touch "$status_folder/$prefix$sequence.status"; fi
		done
	) &
	ticker=$!
	trap 'kill "$ticker" 2>/dev/null; wait "$ticker" 2>/dev/null' EXIT
	on_job || fail "${said:-the job failed}"
	write_status success 0 "${said:-the job is done}"
}

run_handler() {
	command_name=${1:-}
	case $command_name in
	install | enable | job | disable | update | uninstall) ;;
	*) echo "usage: handler install | enable | disable | update | uninstall" >&2; exit 2 ;;
	esac
	read_environment
	log "$command_name begins"
	case $command_name in
	enable | job) "$command_name" ;;
	disable)
		if [ -n "$prefix" ]; then end_job "./${prefix}job.pid"; else end_jobs; fi
		on_disable || fail "${said:-disable failed}" 1010
		;;
	*)
		[ "$command_name" = install ] || end_jobs
		"on_$command_name" || fail "${said:-$command_name failed}"
		;;
	esac
	log "$command_name ended"
}
