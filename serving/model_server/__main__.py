"""``python -m serving.model_server``: read the flags, then import TensorFlow, then serve."""

import asyncio
import logging
import os
import sys

from serving.model_server.flags import check_ports, parse_flags
from tfrs_shop.errors import UserError


def main() -> int:
    """Run the server and return the exit code: 0 after a drain, 2 for what the user must mend."""
    try:
        options = parse_flags(sys.argv[1:])
        check_ports(options)
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
        logging.getLogger("tensorflow").setLevel(logging.ERROR)
        logging.getLogger(__name__).info("Starting; importing TensorFlow takes some seconds")
        # Imported here, so that a wrong flag or a port that is taken is answered at once.
        from serving.model_server.server import ModelServer

        asyncio.run(ModelServer(options).run())
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads of an answer that nobody waits for any more must not keep the process.
    os._exit(code)
