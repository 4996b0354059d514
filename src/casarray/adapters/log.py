"""The log: lines on stderr, for people or, as JSON, for programs. The journal takes either."""

import json
import logging
import os
import sys

log = logging.getLogger(__name__)


class JsonLines(logging.Formatter):
    """A log record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Time in seconds since the epoch, level, logger, text, and the trace if there is one."""
        line = {"time": record.created, "level": record.levelname, "logger": record.name, "text": record.getMessage()}
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line)


def log_to_stderr(*, as_json: bool) -> None:
    """From the level in $CASARRAY_LOG on; INFO unless it names another."""
    handler = logging.StreamHandler(sys.stderr)
    # The journal knows the time by itself.
    plain = "%(levelname)s %(message)s" if "JOURNAL_STREAM" in os.environ else "%(asctime)s %(levelname)s %(message)s"
    handler.setFormatter(JsonLines() if as_json else logging.Formatter(plain))
    level = os.environ.get("CASARRAY_LOG", "INFO").upper()
    known = logging.getLevelNamesMapping()
    logging.basicConfig(handlers=[handler], level=known.get(level, logging.INFO))
    if level not in known:
        log.warning("CASARRAY_LOG=%s is none of %s; INFO is taken", level, ", ".join(known))
