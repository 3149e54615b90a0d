"""Apache Beam jobs: raw shop logs and a catalogue in, TFRecords and a manifest out."""
