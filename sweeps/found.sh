# To be sourced: found FILE COMMAND… runs a check, whose answer 1 is a finding as long as it wrote FILE.
found() {
  local file=$1
  shift
  rm -f "$file" # of an earlier time
  "$@" || [[ $? == 1 ]] || return
  [[ -s $file ]] || { printf '%s was not written: %s\n' "$file" "$*" >&2; return 1; }
}
