"""``trainq completion``: what makes Tab work in bash, zsh and fish.

The scripts know nothing of trainq: each asks ``trainq completion words`` for what may follow, one candidate a line
with a tab and its description. So there is one truth, the parsers, and nothing is to be made anew when they change.
"""

from __future__ import annotations

from argparse import REMAINDER, ArgumentParser, Namespace
from typing import TYPE_CHECKING

from trainq.cli.console import printable
from trainq.cli.context import Context
from trainq.cli.registry import Command

if TYPE_CHECKING:
    from trainq.cli.candidates import Candidate

_BASH = r"""
# trainq completion bash: in ~/.bashrc:  eval "$(trainq completion bash)"
_trainq() {
    local candidates word
    candidates=$(command trainq completion words -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    COMPREPLY=()
    while IFS=$'\t' read -r word _; do
        if [[ -n $word ]]; then COMPREPLY+=("$word"); fi
    done <<< "$candidates"
}
complete -o bashdefault -o default -F _trainq trainq
"""

_ZSH = r"""
#compdef trainq
# trainq completion zsh: in ~/.zshrc, behind compinit:  eval "$(trainq completion zsh)"
_trainq() {
    local -a lines described
    local line
    lines=("${(@f)$(command trainq completion words -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    for line in $lines; do
        if [[ -n $line ]]; then described+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}"); fi
    done
    if (( ${#described} )); then _describe trainq described; else _files; fi
}
compdef _trainq trainq
"""

_FISH = r"""
# trainq completion fish: in ~/.config/fish/config.fish:  trainq completion fish | source
function __trainq_words
    set -l words (commandline -opc) "$(commandline -ct)"
    command trainq completion words -- $words[2..] 2>/dev/null
end
function __trainq_knows
    set -g __trainq_found (__trainq_words)
    test (count $__trainq_found) -gt 0
end
complete -c trainq -n __trainq_knows -f -a '(printf "%s\n" $__trainq_found)'
"""

_SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def _configure(parser: ArgumentParser) -> None:
    parser.add_argument("shell", choices=[*_SCRIPTS, "words"],
                        help="the script for this shell; words: what may stand for the last of the WORDs")
    parser.add_argument("words", nargs=REMAINDER, metavar="WORD", help="of a command line, behind trainq")


def _run(arguments: Namespace, context: Context) -> int:
    console = context.console
    if arguments.shell != "words":
        console.line(_SCRIPTS[arguments.shell].strip())
        return 0
    words = arguments.words[1:] if arguments.words[:1] == ["--"] else arguments.words
    for each in _candidates(words, context):
        console.line(f"{each.word}\t{printable(each.told)}")
    return 0


def _candidates(words: list[str], context: Context) -> list[Candidate]:
    from trainq.cli.candidates import candidates

    return candidates(words, lambda: context.home.root)


COMMANDS = {"completion": Command(_configure, _run)}
