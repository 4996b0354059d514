"""Cmdlets that tell of the shell itself: which cmdlets there are, what they take, what an object has."""

from collections.abc import Callable, Iterable, Sequence

from casarray.core.errors import NotFound
from casarray.core.shell.binding import common_parameters
from casarray.core.shell.cmdlet import Bound, Cmdlet, Credential, Host, Parameter, ParameterKind, Record, Value
from casarray.core.shell.layout import Formatted
from casarray.core.shell.objects import INPUT, first, inputs
from casarray.core.shell.registry import Registry, or_list
from casarray.core.shell.values import has_wildcard, property_names, wildcard
from casarray.core.shell.variables import Variables

_SWITCH = ParameterKind.SWITCH
_KINDS: dict[type, str] = {bool: "bool", int: "int", float: "double", str: "string"}

_COMMAND_PARAMETERS = (
    Parameter("Name", position=0, completes="cmdlet", help="A name, with wildcards."),
    Parameter("Verb", help="Such as Get."),
    Parameter("Noun", help="Such as ClientAccessArray."),
)
_HELP_PARAMETERS = (
    Parameter("Name", position=0, completes="cmdlet", help="A cmdlet."),
    *(Parameter(name, _SWITCH, help="Accepted; all is shown.") for name in ("Full", "Detailed", "Online")),
    Parameter("Examples", _SWITCH, help="Only the examples."),
    Parameter("Parameter", help="Only this parameter."),
)


def cmdlets(registry: Callable[[], Registry], variables: Variables) -> tuple[Cmdlet, ...]:
    """Those of one shell."""

    def get_command(bounds: Sequence[Bound], _host: Host) -> Iterable[Value]:
        return _commands(registry(), first(bounds))

    def get_help(bounds: Sequence[Bound], _host: Host) -> Iterable[Value]:
        return _help(registry(), first(bounds))

    def get_variable(bounds: Sequence[Bound], _host: Host) -> Iterable[Value]:
        wanted = first(bounds).text("Name", "*").removeprefix("$") or "*"
        found = [name for name in variables.names() if wildcard(wanted)(name)]
        if not found and not has_wildcard(wanted):
            raise NotFound(f"there is no variable ${wanted}; Get-Variable lists all there are")
        return [Record("Variable", {"Name": name, "Value": variables.peek(name)}) for name in found]

    return (
        Cmdlet(
            "Get-Command",
            get_command,
            _COMMAND_PARAMETERS,
            synopsis="List the cmdlets.",
            examples=("Get-Command *Array*", "Get-Command -Verb Get"),
            aliases=("gcm",),
        ),
        Cmdlet(
            "Get-Help",
            get_help,
            _HELP_PARAMETERS,
            synopsis="Tell what a cmdlet does and takes.",
            examples=("Get-Help New-ClientAccessArray", "Get-Help Set-MailboxDatabase -Examples"),
            aliases=("help", "man"),
        ),
        Cmdlet(
            "Get-Variable",
            get_variable,
            (Parameter("Name", position=0, completes="variable", help="A name, with wildcards."),),
            synopsis="List the variables.",
            examples=("Get-Variable",),
            aliases=("gv",),
        ),
        *_ALWAYS,
    )


def _commands(registry: Registry, how: Bound) -> Iterable[Value]:
    name = how.text("Name", "*")
    matches, verb, noun = wildcard(name), wildcard(how.text("Verb", "*")), wildcard(how.text("Noun", "*"))
    found = [
        cmdlet
        for cmdlet in registry.all()
        if any(map(matches, (cmdlet.name, *cmdlet.aliases)))
        and verb(cmdlet.name.partition("-")[0])
        and noun(cmdlet.name.partition("-")[2])
    ]
    if not found and not has_wildcard(name) and how.given("Name"):
        raise _no_cmdlet(registry, name)
    for cmdlet in found:
        aliases = ", ".join(cmdlet.aliases)
        properties: dict[str, Value] = {"Name": cmdlet.name, "Aliases": aliases, "Synopsis": cmdlet.synopsis}
        yield Record("CmdletInfo", {"CommandType": "Cmdlet", **properties}, ("Name", "Aliases", "Synopsis"))


def _no_cmdlet(registry: Registry, name: str) -> NotFound:
    near = registry.near(name)
    offer = f"did you mean {or_list(near)}?" if near else "Get-Command lists all there are"
    return NotFound(f'there is no cmdlet "{name[:80]}"; {offer}')


def _help(registry: Registry, how: Bound) -> Iterable[Value]:
    name = how.text("Name")
    if not name:
        yield _OVERVIEW
        return
    cmdlet = registry.find(name)
    if cmdlet is None:
        if not has_wildcard(name):
            raise _no_cmdlet(registry, name)
        yield from _commands(registry, how)
    elif how.flag("Examples"):
        yield "\n".join(cmdlet.examples)
    elif how.given("Parameter"):
        matches = wildcard(how.text("Parameter").lstrip("-"))
        known = [p for p in (*cmdlet.parameters, *common_parameters(cmdlet)) if matches(p.name)]
        if not known:
            raise NotFound(f"{cmdlet.name} has no parameter -{how.text('Parameter')}; see Get-Help {cmdlet.name}")
        yield "\n".join(line for parameter in known for line in _parameter(parameter))
    else:
        yield Formatted(help_text(cmdlet), (_as_record(cmdlet),))


_OVERVIEW = """\
This shell takes the lines of an Exchange administrator.
  Get-Command                 list the cmdlets; Get-Command *Database* those that have to do with databases
  Get-Help NAME               what a cmdlet does and takes, with examples; NAME -? is the same
  Get-X | fl *                show all that an object has; Get-X | gm its properties
  ... -WhatIf                 only say what would be done
  exit                        leave"""


def help_text(cmdlet: Cmdlet) -> str:
    """What a person should know of a cmdlet."""
    lines = ["NAME", f"    {cmdlet.name}" + (f" ({', '.join(cmdlet.aliases)})" if cmdlet.aliases else ""), ""]
    lines += ["SYNOPSIS", f"    {cmdlet.synopsis}", "", "SYNTAX", f"    {syntax(cmdlet)}"]
    if cmdlet.parameters:
        lines += ["", "PARAMETERS"]
        lines += [f"    {line}" for parameter in cmdlet.parameters for line in _parameter(parameter)]
    common = " ".join(f"-{parameter.name}" for parameter in common_parameters(cmdlet))
    lines += ["", "COMMON PARAMETERS", f"    {common}"]
    if cmdlet.examples:
        lines += ["", "EXAMPLES", *(f"    {line}" for example in cmdlet.examples for line in example.split("\n"))]
    return "\n".join(lines)


def syntax(cmdlet: Cmdlet) -> str:
    """``New-ClientAccessArray [-Name] <string> -Fqdn <string> [-Site <string>]``."""
    ordered = sorted(cmdlet.parameters, key=lambda p: (p.position is None, p.position or 0, not p.mandatory))
    return " ".join((cmdlet.name, *map(_usage, ordered)))


def _usage(parameter: Parameter) -> str:
    name = f"-{parameter.name}"
    if parameter.position is not None:
        name = f"[{name}]"
    value = "" if parameter.kind is _SWITCH else f" <{'|'.join(parameter.choices) or parameter.kind}>"
    return f"{name}{value}" if parameter.mandatory else f"[{name}{value}]"


def _parameter(parameter: Parameter) -> list[str]:
    facts = [] if parameter.kind is _SWITCH else [f"<{'|'.join(parameter.choices) or parameter.kind}>"]
    facts += ["required"] if parameter.mandatory else []
    facts += [f"position {parameter.position + 1}"] if parameter.position is not None else []
    facts += ["from the pipeline"] if parameter.from_pipeline else []
    head = f"-{parameter.name} " + ", ".join(facts)
    return [head.rstrip(), *([f"    {parameter.help}"] if parameter.help else [])]


def _as_record(cmdlet: Cmdlet) -> Record:
    return Record(
        "HelpInfo",
        {
            "Name": cmdlet.name,
            "Synopsis": cmdlet.synopsis,
            "Syntax": syntax(cmdlet),
            "Parameters": tuple(
                Record("ParameterInfo", {"Name": p.name, "Type": str(p.kind), "Required": p.mandatory, "Help": p.help})
                for p in cmdlet.parameters
            ),
            "Examples": cmdlet.examples,
        },
    )


def _members(bounds: Sequence[Bound], _host: Host) -> Iterable[Value]:
    seen: set[str] = set()
    for value in inputs(bounds):
        kind = value.type_name if isinstance(value, Record) else _KINDS.get(type(value), type(value).__name__)
        if kind in seen:
            continue
        seen.add(kind)
        for name in sorted(property_names(value), key=str.casefold):
            held = value.get(name) if isinstance(value, Record) else None
            properties: dict[str, Value] = {"Name": name, "MemberType": "Property"}
            properties["Definition"] = f"{_kind_of(held)} {name}"
            yield Record("MemberDefinition", {"TypeName": kind, **properties}, tuple(properties))


def _kind_of(value: Value) -> str:
    if isinstance(value, Record):
        return value.type_name
    if isinstance(value, tuple | list):
        return f"{_kind_of(value[0]) if value else 'string'}[]"
    return _KINDS.get(type(value), "object")


def _credential(bounds: Sequence[Bound], host: Host) -> Iterable[Value]:
    how = first(bounds)
    given = how.values.get("Credential")
    if isinstance(given, Credential):
        yield given
        return
    ask = getattr(host, "ask_password", None)
    user = how.text("UserName")
    if user and ask is not None:
        yield ask(user)
    else:
        yield host.ask_credential(how.text("Message") or "Supply a user name and its password.")


_ALWAYS = (
    Cmdlet(
        "Get-Member",
        _members,
        (INPUT,),
        synopsis="List the properties of objects.",
        examples=("Get-ClientAccessArray | Get-Member",),
        aliases=("gm",),
    ),
    Cmdlet(
        "Get-Credential",
        _credential,
        (
            Parameter("Credential", ParameterKind.CREDENTIAL, position=0, help="A user, whose password is asked for."),
            Parameter("UserName", help="The same."),
            Parameter("Message", help="What is said when asking."),
        ),
        synopsis="Ask for a user name and a password.",
        examples=("$c = Get-Credential",),
    ),
)
