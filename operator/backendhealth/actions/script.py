"""The shell script that sends a signal from within a container: all checks and the signal in one exec.

POSIX, and no program but the shell itself: an image may have nothing else. It says what it does in lines that begin
with `sent`, `missed` or `refused`, and ends with SENT or REFUSED. It checks what `actions.sender` checks.
"""

from __future__ import annotations

from collections.abc import Sequence

from backendhealth.actions import sender
from backendhealth.actions.said import Said

SENT, REFUSED = 0, 3
"""Exit codes: sent at least once; provably never."""
NO_SHELL = frozenset({126, 127})
"""Exit codes of runtimes that tell so that the image has no such program."""

_SCRIPT = r"""
set -f
signal=$1 number=$2 process=$3 uid=$4 started=$5 after=$6 forbidden=$7 later=$8 earlier=$9
shift 9
youngest=$1 ticks=$2
no() { echo "refused $*"; exit 3; }
look() {
  line= name=
  read -r line 2>/dev/null <"/proc/$1/stat" && read -r name 2>/dev/null <"/proc/$1/comm" || return 1
  rest=${line##*") "}
  set -- $rest
  state=$1 begun=${20:-}
  [ -n "$begun" ]
}
fit() {
  look "$1" || no "process $1 has ended"
  case $state in Z | X) no "process $1 has ended" ;; esac
  title=
  read -r title 2>/dev/null <"/proc/$1/cmdline"
  for program in $forbidden; do
    case $name in "$program") no "process $1 is $program, to which SIG$signal means something else" ;; esac
    case $title in "$program"[\ :]*) no "process $1 is $program, to which SIG$signal means something else" ;; esac
  done
  mask=
  while read -r key value rest; do
    case $key in SigCgt:) mask=$value ;; esac
  done 2>/dev/null <"/proc/$1/status"
  [ ${#mask} = 16 ] || no "it can't be told which signals process $1 handles"
  [ $(((0x${mask#????????} >> (number - 1)) & 1)) = 1 ] || no "process $1 ($name) has no handler for SIG$signal"
}
ours=
while IFS= read -r line; do
  case $line in *"$uid"*) ours=1 ;; esac
done </proc/self/mountinfo
[ -n "$ours" ] || no "this is not the pod that was meant"
read -r up rest </proc/uptime
up=${up%%.*}
boot=
while read -r key value rest; do
  case $key in btime) boot=$value ;; esac
done </proc/stat
[ -n "$boot" ] || no "it can't be told when the container was started"
late=$((boot + up - after))
[ $late -le 0 ] || no "it is too late, by $late s of the node's clock"
look 1 || no "there is no process 1"
first=$((boot + begun / ticks))
[ $first -le $((started + later)) ] && [ $first -ge $((started - earlier)) ] ||
  no "the container has been restarted: its process 1 did not begin when the container did"
[ $((up - begun / ticks)) -ge "$youngest" ] ||
  no "the container has only just started: it must have run for $youngest s"
found=1
if [ -n "$process" ]; then
  found=
  set +f
  for entry in /proc/[0-9]*; do
    pid=${entry#/proc/} name=
    [ "$pid" != $$ ] && read -r name 2>/dev/null <"$entry/comm"
    [ "$name" = "$process" ] && found="$found $pid"
  done
  set -f
  [ -n "$found" ] || no "there is no process $process"
fi
meant=
for pid in $found; do
  fit "$pid"
  meant="$meant $pid:$begun"
done
sent=
for one in $meant; do
  pid=${one%:*}
  if look "$pid" && [ "$begun" = "${one#*:}" ] && kill -s "$signal" "$pid" 2>/dev/null; then
    echo "sent $pid $name"
    sent=1
  else
    echo "missed $pid"
  fi
done
[ -n "$sent" ] || no "none of the processes is there any more, or they belong to another user"
exit 0
"""


def command(wish: sender.Wish, number: int) -> Sequence[str]:
    """The command line; `number` is that of the signal."""
    forbidden = " ".join(sender.FORBIDDEN) if wish.signal in sender.MEANING_VARIES else ""
    what = (wish.signal, number, wish.process, wish.pod_uid, int(wish.started), int(wish.not_after), forbidden)
    limits = (sender.LATER, sender.EARLIER, sender.YOUNGEST, sender.TICKS)
    return ("sh", "-c", _SCRIPT, "backendhealth", *(str(one) for one in (*what, *limits)))


def said(output: str) -> Said:
    """What the lines of `output` tell."""
    sent: list[int] = []
    missed: list[int] = []
    refused = ""
    for line in output.splitlines():
        word, _, rest = line.partition(" ")
        pid = rest.partition(" ")[0]
        if word == "refused":
            refused = rest
        elif word in ("sent", "missed") and pid.isdecimal():
            (sent if word == "sent" else missed).append(int(pid))
    return Said(tuple(sent), tuple(missed), refused)
