# Sourced by inside.sh and node.sh: programs that an init system would keep running.

# keep NAME LOG COMMAND...: runs COMMAND, and again whenever it ends, but not while the file S/hold/NAME exists.
# So a test takes a program away by making that file and killing the program, and gives it back by removing the file.
keep() {
  local name=$1 log=$2; shift 2
  while :; do
    while [ -e "$S/hold/$name" ]; do sleep 0.1; done
    "$@" >> "$log" 2>&1 || echo "$name ended with $?, it is started again" >> "$log"
    sleep 0.2 # what cannot start shall not spin
  done
}
