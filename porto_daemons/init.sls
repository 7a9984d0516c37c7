#!py
"""Every daemon of the daemons directory and of pillar, each as a state of its own.

Rendering never fails, as that would take the whole highstate of the host with it: whatever is wrong
becomes a state that says so and fails.
"""


def run():
    if "porto_daemon.specs" not in __salt__:
        # Where there is no state module either, Salt itself says why in its place.
        problem = "there is no execution module porto_daemon: salt-call saltutil.sync_all, or "
        problem += "install ya-salt for Salt's Python; sys.doc and the minion's log say more"
        return {"porto-daemons": _failed("porto-daemons", problem)}
    try:
        found = _look()
        return _list_states(found["directory"], found, _pillar_daemons())
    except Exception as error:  # noqa: BLE001 - see above
        return {"porto-daemons": _failed("porto-daemons", str(error))}


def _look():
    try:
        found = __salt__["porto_daemon.specs"]()
    except Exception:  # noqa: BLE001 - the state `directory` says what is wrong
        found = {"specs": [], "rejected": []}
    if "directory" not in found:
        # It cannot be read, or the module is older than this file.
        found["directory"] = __salt__["porto_daemon.settings"]()["specs_dir"]["value"]
    return found


def _list_states(directory, found, daemons):
    states = {"porto-daemons": _state("directory", name=directory, makedirs=bool(daemons))}
    laid_down = {directory + "/pillar-" + name + ".yml": name for name in daemons}
    for path, name in laid_down.items():
        states[_id(path)] = _laid_down(path, name, daemons[name])
    for spec in found["specs"]:
        if spec["path"] not in laid_down:
            function = "absent" if spec["delete_requested"] else "managed"
            states[_id(spec["path"])] = _daemon(function, spec["name"], source=spec["path"])
    for rejected in found["rejected"]:
        if rejected["path"] not in laid_down:
            name = rejected["name"] or rejected["path"]
            states[_id(rejected["path"])] = _daemon("managed", name, source=rejected["path"])
    return states


def _pillar_daemons():
    section = __pillar__.get("porto_daemons") or {}
    return {str(name): fields for name, fields in (section.get("daemons") or {}).items()}


def _laid_down(path, name, fields):
    place = "pillar porto_daemons:daemons:" + name
    if not isinstance(fields, dict):
        return _failed(name, place + ": a mapping of version, properties, packages, … is wanted")
    taken = [str(key) for key in fields if key in ("name", "source", "file", "together")]
    if taken:
        return _failed(name, place + ": it cannot say " + ", ".join(taken))
    # In a state `watch` is Salt's own word.
    arguments = {"watch_files" if key == "watch" else str(key): fields[key] for key in fields}
    return _daemon("managed", name, file=path, **arguments)


def _daemon(function, name, **arguments):
    return _state(function, name=name, together=True, **arguments)


def _failed(name, problem):
    return _state("directory", name=name, problem=problem)


def _state(function, **arguments):
    return {"porto_daemon." + function: [{key: value} for key, value in arguments.items()]}


def _id(path):
    """Tell our states from a `file.managed` of the same path; `_|-` would confuse Salt's own keys."""
    return "porto-daemons:" + path.replace("_|-", "_-")
