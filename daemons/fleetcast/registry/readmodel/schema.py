"""Tables of the read model. A change of anything here raises `SCHEMA_VERSION`: a file of another one is made again."""

from typing import Final

SCHEMA_VERSION: Final = 5
APPLICATION_ID: Final = 0x66634D31
"""Marks the file as ours ("fcM1"): `file` and a person who opens it can tell."""

# `versions` holds only what is filtered and sorted by, so that even a filter without an index reads few pages; what is
# shown of a version is in `documents`. `version_key` sorts 9 before 10.
TABLES: Final = """
CREATE TABLE cursors (
  stream TEXT PRIMARY KEY, sequence INTEGER NOT NULL, created TEXT NOT NULL, time TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE versions (
  model TEXT NOT NULL, version_key TEXT NOT NULL, version TEXT NOT NULL, kind TEXT NOT NULL,
  stage TEXT NOT NULL, owner TEXT, team TEXT, framework TEXT, model_type TEXT, format TEXT NOT NULL,
  origin TEXT NOT NULL, run_id TEXT, since TEXT NOT NULL, registered_at TEXT NOT NULL, elo REAL, bytes INTEGER NOT NULL,
  artifact16 TEXT NOT NULL, search TEXT NOT NULL,
  PRIMARY KEY (model, version_key, version, kind)
) WITHOUT ROWID;
CREATE TABLE documents (
  model TEXT NOT NULL, version TEXT NOT NULL, kind TEXT NOT NULL,
  listed TEXT NOT NULL, state TEXT, entry TEXT,
  PRIMARY KEY (model, version, kind)
);
CREATE TABLE models (model TEXT NOT NULL, kind TEXT NOT NULL, PRIMARY KEY (model, kind)) WITHOUT ROWID;
CREATE TABLE tags (
  tag TEXT NOT NULL, model TEXT NOT NULL, version_key TEXT NOT NULL, version TEXT NOT NULL, kind TEXT NOT NULL,
  PRIMARY KEY (tag, model, version_key, version, kind)
) WITHOUT ROWID;
CREATE TABLE evaluations (
  model TEXT NOT NULL, version TEXT NOT NULL, kind TEXT NOT NULL, opponent TEXT NOT NULL,
  wins INTEGER NOT NULL, losses INTEGER NOT NULL, draws INTEGER NOT NULL,
  PRIMARY KEY (model, version, kind, opponent)
) WITHOUT ROWID;
CREATE TABLE flags (
  model TEXT NOT NULL, version TEXT NOT NULL, kind TEXT NOT NULL, flag TEXT NOT NULL,
  value INTEGER NOT NULL, by TEXT NOT NULL, at TEXT NOT NULL, reason TEXT, report TEXT,
  PRIMARY KEY (model, version, kind, flag)
) WITHOUT ROWID;
CREATE TABLE stage_changes (
  model TEXT NOT NULL, version TEXT NOT NULL, kind TEXT NOT NULL, place INTEGER NOT NULL,
  stage TEXT NOT NULL, at TEXT NOT NULL, n INTEGER NOT NULL,
  PRIMARY KEY (model, version, kind, place)
) WITHOUT ROWID;
CREATE TABLE slots (
  model TEXT NOT NULL, kind TEXT NOT NULL, generation INTEGER NOT NULL,
  production TEXT, previous TEXT, canary TEXT, percent INTEGER, at TEXT NOT NULL, document TEXT NOT NULL,
  PRIMARY KEY (model, kind)
) WITHOUT ROWID;
CREATE TABLE slot_history (
  model TEXT NOT NULL, kind TEXT NOT NULL, n INTEGER NOT NULL, at TEXT NOT NULL, generation INTEGER NOT NULL,
  production TEXT, production_artifact TEXT, previous TEXT,
  canary TEXT, canary_artifact TEXT, percent INTEGER,
  PRIMARY KEY (model, kind, n)
) WITHOUT ROWID;
CREATE TABLE rollouts (
  model TEXT PRIMARY KEY, rollout TEXT NOT NULL, version TEXT NOT NULL, target TEXT NOT NULL, phase TEXT NOT NULL,
  since TEXT NOT NULL, document TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE freezes (
  model TEXT PRIMARY KEY, frozen INTEGER NOT NULL, until TEXT, document TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE authority (id INTEGER PRIMARY KEY CHECK (id = 1), document TEXT NOT NULL);
CREATE TABLE distributions (
  model TEXT NOT NULL, version TEXT NOT NULL, kind TEXT NOT NULL, document TEXT NOT NULL,
  PRIMARY KEY (model, version, kind)
) WITHOUT ROWID;
CREATE TABLE audit (
  model TEXT NOT NULL, n INTEGER NOT NULL, action TEXT NOT NULL, version TEXT, actor TEXT NOT NULL, at TEXT NOT NULL,
  sequence INTEGER NOT NULL, document TEXT NOT NULL,
  PRIMARY KEY (model, n)
);
CREATE TABLE runs (
  run_id TEXT PRIMARY KEY, lane TEXT, model TEXT, state TEXT NOT NULL, degraded INTEGER NOT NULL,
  started_at TEXT NOT NULL, finished_at TEXT, node TEXT, sequence INTEGER NOT NULL, document TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE epochs (
  run_id TEXT NOT NULL, epoch INTEGER NOT NULL, at TEXT NOT NULL, document TEXT NOT NULL,
  PRIMARY KEY (run_id, epoch)
) WITHOUT ROWID;
CREATE TABLE run_metrics (
  run_id TEXT NOT NULL, metric TEXT NOT NULL, epoch INTEGER NOT NULL, value REAL NOT NULL, at TEXT NOT NULL,
  PRIMARY KEY (run_id, metric, epoch)
) WITHOUT ROWID;
CREATE TABLE checkpoints (
  run_id TEXT NOT NULL, event TEXT NOT NULL, epoch INTEGER, at TEXT NOT NULL, document TEXT NOT NULL,
  PRIMARY KEY (run_id, event)
) WITHOUT ROWID;
CREATE TABLE faults (
  run_id TEXT NOT NULL, event TEXT NOT NULL, fault TEXT NOT NULL, at TEXT NOT NULL, document TEXT NOT NULL,
  PRIMARY KEY (run_id, event)
) WITHOUT ROWID;
CREATE TABLE fallbacks (
  run_id TEXT NOT NULL, event TEXT NOT NULL, at TEXT NOT NULL, document TEXT NOT NULL,
  PRIMARY KEY (run_id, event)
) WITHOUT ROWID;
CREATE TABLE consumption (
  sequence INTEGER PRIMARY KEY, event TEXT NOT NULL UNIQUE, what TEXT NOT NULL, model TEXT NOT NULL,
  version TEXT NOT NULL, node TEXT NOT NULL, at TEXT NOT NULL, artifact TEXT NOT NULL,
  generation INTEGER, slot TEXT, bytes INTEGER, transport TEXT, seconds REAL, reason TEXT
);
CREATE TABLE memory_model_performance (
  id INTEGER PRIMARY KEY, model_id TEXT NOT NULL, version TEXT NOT NULL, timestamp TIMESTAMP NOT NULL,
  latency_p95_ms REAL, error_rate REAL, ood_rate REAL, input_drift_score REAL, num_requests INTEGER,
  gpu_memory_mb REAL, device TEXT,
  node TEXT NOT NULL, minute INTEGER NOT NULL, slot TEXT NOT NULL, generation INTEGER NOT NULL,
  snapshots INTEGER NOT NULL, errors REAL NOT NULL, error_requests REAL NOT NULL, ood REAL NOT NULL,
  ood_requests REAL NOT NULL, latency_p50_ms REAL, latency_p99_ms REAL, requests_per_second REAL, accuracy REAL,
  drift_requests REAL NOT NULL, latency TEXT, reported_p95 TEXT, weights TEXT,
  UNIQUE (model_id, version, node, minute)
);
CREATE INDEX idx_model_perf_time ON memory_model_performance (timestamp);
"""

# Made once the streams have been read to their end for the first time: each is then sorted once, instead of being
# searched a hundred thousand times.
INDEXES: Final = """
CREATE INDEX IF NOT EXISTS versions_stage ON versions (stage);
CREATE INDEX IF NOT EXISTS versions_owner ON versions (owner);
CREATE INDEX IF NOT EXISTS versions_team ON versions (team);
CREATE INDEX IF NOT EXISTS versions_framework ON versions (framework);
CREATE INDEX IF NOT EXISTS versions_type ON versions (model_type);
CREATE INDEX IF NOT EXISTS versions_run ON versions (run_id);
CREATE INDEX IF NOT EXISTS versions_artifact ON versions (artifact16);
CREATE INDEX IF NOT EXISTS versions_registered ON versions (registered_at);
CREATE INDEX IF NOT EXISTS versions_since ON versions (since);
CREATE INDEX IF NOT EXISTS versions_elo ON versions (elo) WHERE elo IS NOT NULL;
CREATE INDEX IF NOT EXISTS tags_of_version ON tags (model, version, kind);
CREATE INDEX IF NOT EXISTS runs_model ON runs (model, started_at);
CREATE INDEX IF NOT EXISTS runs_lane ON runs (lane, started_at);
CREATE INDEX IF NOT EXISTS runs_started ON runs (started_at);
CREATE INDEX IF NOT EXISTS consumption_version ON consumption (model, version, what, node);
CREATE INDEX IF NOT EXISTS consumption_node ON consumption (model, node, what);
CREATE INDEX IF NOT EXISTS idx_model_perf_id ON memory_model_performance (model_id);
CREATE INDEX IF NOT EXISTS model_perf_minute ON memory_model_performance (model_id, minute);
"""
