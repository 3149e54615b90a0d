"""Apache Beam jobs: raw shop logs and a catalogue in, TFRecords and a manifest out."""

import logging

# Beam says these at every import and every inference; they concern neither what is given nor what is written.
_NOISE = ("apitools not found", "Resource module is not available")

logging.getLogger().addFilter(lambda record: not record.getMessage().startswith(_NOISE))
