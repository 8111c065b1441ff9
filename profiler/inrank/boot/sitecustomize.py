"""First code of ours in every Python process: wait for `import torch`, touch nothing else.

This folder is put on PYTHONPATH by `perfkit profile`. Python imports a module of this name at
start-up, so it must be cheap (sys and os only), must run the user's own `sitecustomize` as if ours
were not there, and must never raise. Where a wheel of perfkit is installed in the training's
environment, perfkit.pth runs this file too if PYTHONPATH was replaced or is ignored (-E, -I).
"""

import os
import sys

BOOT = os.path.dirname(os.path.abspath(__file__))
INRANK = os.path.dirname(BOOT)


class ImportWatcher:
    """Runs a callback right after a named module has been imported.

    `waiting` maps a module's name to the callback; an import of any other name costs one lookup.
    """

    def __init__(self):
        self.waiting = {}

    def find_spec(self, name, path=None, target=None):
        """The spec of a module that is waited for, made by the finders after this one."""
        if name not in self.waiting:
            return None
        for finder in sys.meta_path:
            find = None if finder is self else getattr(finder, "find_spec", None)
            spec = find(name, path, target) if find else None
            if spec is not None:
                self.call_after_exec(name, spec.loader)
                return spec
        return None

    def call_after_exec(self, name, loader):
        """Have `loader` run the callback once it has executed its module.

        A spec may also be looked up and thrown away, as a test for an installed module: the
        callback goes on waiting until a module is really executed.
        """
        execute = getattr(loader, "exec_module", None)
        if execute is None:
            return

        def exec_module(module):
            del loader.exec_module  # the instance attribute below: the loader is as it was
            execute(module)
            callback = self.waiting.pop(name, None)
            if callback is not None:
                callback(module)

        loader.exec_module = exec_module


class StandInFinder:
    """Serves a minimal `perfkit` (step, region) where none is installed; asked last of all."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        """The spec of our stand-in, for the name perfkit only."""
        if name != "perfkit":
            return None
        from importlib.util import spec_from_file_location

        return spec_from_file_location(name, os.path.join(INRANK, "stand_in.py"))


def start_agent(watcher):
    """Load the in-rank package under a private name and let it install its hooks."""
    try:
        from importlib.util import module_from_spec, spec_from_file_location

        spec = spec_from_file_location(
            "_perfkit_inrank",
            os.path.join(INRANK, "__init__.py"),
            submodule_search_locations=[INRANK],
        )
        agent = module_from_spec(spec)
        sys.modules["_perfkit_inrank"] = agent
        spec.loader.exec_module(agent)
        agent.start(watcher.waiting)
    except Exception as error:  # whatever goes wrong here must not reach the user's training
        note_failure(error)


def prepare_ray(worker):
    """Have `ray.init` hand our variables on to the workers of a cluster that is there already."""
    try:
        from importlib.util import module_from_spec, spec_from_file_location

        spec = spec_from_file_location("_perfkit_ray_env", os.path.join(INRANK, "ray_env.py"))
        ours = module_from_spec(spec)
        spec.loader.exec_module(ours)
        ours.install(worker)
    except Exception as error:  # whatever goes wrong here must not reach the user's training
        note_failure(error)


def note_failure(error):
    """Leave a line for the launching parent, which turns it into a warning of the run."""
    try:
        path = os.path.join(os.environ["PERFKIT_RUN_DIR"], "boot-errors.log")
        with open(path, "a") as log:
            log.write(f"pid {os.getpid()}: capture did not start: {error!r}\n")
    except OSError:
        pass


def run_the_users_own():
    """Import the `sitecustomize` that this one hides, if there is one."""
    ours = sys.modules.pop("sitecustomize", None)
    try:
        import sitecustomize  # noqa: F401  (the next one on sys.path)
    except ImportError as error:
        if error.name != "sitecustomize":
            raise
        if ours is not None:
            sys.modules["sitecustomize"] = ours


sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or ".") != BOOT]
if os.environ.get("PERFKIT_RUN_DIR") and not hasattr(sys, "_perfkit_watcher"):
    _watcher = ImportWatcher()
    _watcher.waiting["torch"] = lambda module: start_agent(_watcher)
    _watcher.waiting["ray._private.worker"] = prepare_ray
    sys._perfkit_watcher = _watcher
    sys.meta_path.insert(0, _watcher)
    sys.meta_path.append(StandInFinder)
if __name__ == "sitecustomize":  # perfkit.pth runs this file as well, before Python looks for one
    run_the_users_own()
