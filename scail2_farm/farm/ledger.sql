-- The ledger's tables and every query of it. Instants are UTC seconds; flags are 0 or 1; JSON is text.

-- name: schema

-- A submission that was accepted; `turn` is the order of acceptance. `changes` counts what its returned cut must show,
-- `asked` how much of it the cut on its way shows, `answered` how much the one that is there does.
CREATE TABLE job (
    turn INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE COLLATE NOCASE,
    name TEXT NOT NULL,
    revision INTEGER NOT NULL,
    state TEXT NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'done', 'failed', 'cancelled')),
    paused INTEGER NOT NULL DEFAULT 0,
    priority INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    folder TEXT NOT NULL,
    deliver_to TEXT NOT NULL,
    cut TEXT,
    raw INTEGER NOT NULL,
    movie TEXT,
    submission TEXT NOT NULL,
    warnings TEXT NOT NULL,
    at REAL NOT NULL,
    started INTEGER NOT NULL DEFAULT 0,
    changes INTEGER NOT NULL DEFAULT 1,
    asked INTEGER NOT NULL DEFAULT 0,
    answered INTEGER NOT NULL DEFAULT 0,
    returned TEXT,
    fault TEXT
) STRICT;
CREATE INDEX job_name ON job (name, turn);
CREATE INDEX job_state ON job (state, turn);

-- A shot as it was sealed, some 5 KB each: a new one for every time it is planned.
CREATE TABLE document (
    id INTEGER PRIMARY KEY,
    text TEXT NOT NULL
) STRICT;

-- `found`: its take is on disk, and delivering only looks. `became`: the later revision that has a shot of this name.
-- `holds` counts the holds in a row that end by themselves, `tries` the failed deliveries in a row.
CREATE TABLE shot (
    id INTEGER PRIMARY KEY,
    job INTEGER NOT NULL REFERENCES job (turn),
    name TEXT NOT NULL,
    position INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    state TEXT NOT NULL
        CHECK (state IN ('open', 'rendered', 'done', 'failed', 'held', 'cancelled', 'retrying')),
    paused INTEGER NOT NULL DEFAULT 0,
    job_paused INTEGER NOT NULL DEFAULT 0,
    found INTEGER NOT NULL DEFAULT 0,
    segments INTEGER NOT NULL DEFAULT 0,
    document INTEGER REFERENCES document (id) ON DELETE SET NULL,
    need_memory INTEGER NOT NULL DEFAULT 0,
    need_disk INTEGER NOT NULL DEFAULT 0,
    seed INTEGER,
    by_itself INTEGER NOT NULL DEFAULT 0,
    not_before REAL NOT NULL DEFAULT 0,
    holds INTEGER NOT NULL DEFAULT 0,
    tries INTEGER NOT NULL DEFAULT 0,
    version INTEGER,
    folder TEXT,
    became INTEGER REFERENCES job (turn),
    reason TEXT NOT NULL DEFAULT '',
    fault TEXT,
    UNIQUE (job, name)
) STRICT;
CREATE UNIQUE INDEX shot_queue ON shot (priority DESC, job, position)
    WHERE state = 'open' AND paused = 0 AND job_paused = 0;
CREATE UNIQUE INDEX shot_rendered ON shot (priority DESC, job, position)
    WHERE state = 'rendered' AND paused = 0 AND job_paused = 0;
CREATE INDEX shot_waits ON shot (not_before) WHERE state = 'held' AND by_itself = 1;
CREATE INDEX shot_retrying ON shot (job, position) WHERE state = 'retrying';
CREATE INDEX shot_state ON shot (job, state, segments);
CREATE INDEX shot_name ON shot (name);
CREATE INDEX shot_document ON shot (document);

-- A window of frames by content, wanted by however many shots. `told`: the event after which somebody last knew whether
-- its files are there. `fault` is the last failure's.
CREATE TABLE segment (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    prev INTEGER REFERENCES segment (id),
    state TEXT NOT NULL
        CHECK (state IN ('blocked', 'ready', 'leased', 'publishing', 'done', 'failed', 'held', 'cancelled')),
    paused INTEGER NOT NULL DEFAULT 0,
    token INTEGER NOT NULL DEFAULT 0,
    tries INTEGER NOT NULL DEFAULT 0,
    losses INTEGER NOT NULL DEFAULT 0,
    careful INTEGER NOT NULL DEFAULT 0,
    not_before REAL NOT NULL DEFAULT 0,
    work REAL NOT NULL,
    attempt INTEGER,
    step INTEGER NOT NULL DEFAULT 0,
    steps INTEGER NOT NULL DEFAULT 0,
    told INTEGER NOT NULL,
    fault TEXT
) STRICT;
CREATE INDEX segment_prev ON segment (prev);
CREATE INDEX segment_leased ON segment (state) WHERE state IN ('leased', 'publishing');

-- The segments of a shot, in order.
CREATE TABLE chain (
    shot INTEGER NOT NULL REFERENCES shot (id),
    idx INTEGER NOT NULL,
    segment INTEGER NOT NULL REFERENCES segment (id),
    PRIMARY KEY (shot, idx)
) STRICT, WITHOUT ROWID;
CREATE INDEX chain_segment ON chain (segment);

-- One lease and what became of it; `class` is empty while it lasts.
CREATE TABLE attempt (
    id INTEGER PRIMARY KEY,
    segment INTEGER NOT NULL REFERENCES segment (id),
    token INTEGER NOT NULL,
    shot INTEGER NOT NULL REFERENCES shot (id),
    idx INTEGER NOT NULL,
    document INTEGER REFERENCES document (id) ON DELETE SET NULL,
    worker TEXT NOT NULL,
    boot TEXT NOT NULL,
    pid INTEGER NOT NULL,
    pid_start TEXT NOT NULL,
    careful INTEGER NOT NULL,
    work REAL NOT NULL,
    t0 REAL NOT NULL,
    t1 REAL,
    class TEXT CHECK (class IN (
        'done', 'lost', 'cancelled', 'drained',
        'input', 'changed', 'setup', 'storage', 'memory', 'guard', 'engine', 'crash', 'timeout', 'stalled'
    )),
    rc INTEGER,
    signal INTEGER,
    seconds REAL,
    step_seconds REAL,
    peak_bytes INTEGER,
    fault TEXT,
    UNIQUE (segment, token)
) STRICT;
CREATE INDEX attempt_measured ON attempt (id) WHERE class = 'done' AND seconds > 0;
CREATE INDEX attempt_shot ON attempt (shot);
CREATE INDEX attempt_document ON attempt (document);

-- `failures` in a row, counted ones; `last_shot` is the chain it is at.
CREATE TABLE worker (
    slot TEXT PRIMARY KEY,
    state TEXT NOT NULL DEFAULT 'idle' CHECK (state IN ('idle', 'busy', 'offline')),
    pid INTEGER,
    failures INTEGER NOT NULL DEFAULT 0,
    blocked_until REAL NOT NULL DEFAULT 0,
    last_shot INTEGER REFERENCES shot (id)
) STRICT;

-- Counted failures of a worker at a shot; until then it is not given it.
CREATE TABLE block (
    worker TEXT NOT NULL REFERENCES worker (slot),
    shot INTEGER NOT NULL REFERENCES shot (id),
    failures INTEGER NOT NULL,
    until REAL NOT NULL DEFAULT 0,
    PRIMARY KEY (worker, shot)
) STRICT, WITHOUT ROWID;
CREATE INDEX block_shot ON block (shot);

-- What was dropped, by content.
CREATE TABLE "drop" (
    sha256 TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('claimed', 'accepted', 'rejected')),
    job TEXT,
    at REAL NOT NULL
) STRICT;

-- What happened, for ever.
CREATE TABLE event (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    at REAL NOT NULL,
    actor TEXT NOT NULL,
    what TEXT NOT NULL,
    job TEXT,
    subject TEXT NOT NULL,
    facts TEXT NOT NULL
) STRICT;
CREATE INDEX event_job ON event (job, seq);
CREATE TRIGGER event_stays BEFORE DELETE ON event BEGIN
    SELECT RAISE(ABORT, 'what happened is never taken back');
END;
CREATE TRIGGER event_stands BEFORE UPDATE ON event BEGIN
    SELECT RAISE(ABORT, 'what happened is never told anew');
END;

-- What each hook has not been told yet.
CREATE TABLE outbox (
    url TEXT NOT NULL,
    seq INTEGER NOT NULL REFERENCES event (seq),
    tries INTEGER NOT NULL DEFAULT 0,
    not_before REAL NOT NULL DEFAULT 0,
    why TEXT NOT NULL DEFAULT '',
    body TEXT NOT NULL,
    PRIMARY KEY (url, seq)
) STRICT, WITHOUT ROWID;

-- What a worker may be given, a row for each shot that wants it; every segment here follows one that is done.
CREATE VIEW claimable AS
SELECT shot.id AS shot, shot.job, shot.name, shot.position, shot.priority, shot.need_memory, shot.need_disk,
       shot.document, chain.idx, segment.id AS segment, segment.not_before
FROM shot CROSS JOIN chain ON chain.shot = shot.id CROSS JOIN segment ON segment.id = chain.segment
WHERE shot.state = 'open' AND shot.paused = 0 AND shot.job_paused = 0 AND segment.state = 'ready';

-- What workers have: one row for each segment that is leased or being published.
CREATE VIEW leased AS
SELECT segment.id AS segment, segment.key, segment.token, segment.state, segment.paused, segment.tries, segment.losses,
       segment.step, segment.steps, attempt.id AS attempt, attempt.shot, attempt.idx, attempt.document, attempt.worker,
       attempt.boot, attempt.pid, attempt.pid_start, attempt.careful, attempt.work, attempt.t0,
       shot.name, shot.segments, job.id AS job, job.turn
FROM segment CROSS JOIN attempt ON attempt.id = segment.attempt CROSS JOIN shot ON shot.id = attempt.shot
    CROSS JOIN job ON job.turn = shot.job
WHERE segment.state IN ('leased', 'publishing');

-- name: scratch-tables
CREATE TEMP TABLE touched (segment INTEGER PRIMARY KEY) STRICT;

-- name: mark
SELECT coalesce(max(seq), 0) AS seq FROM event

-- name: everybody-offline
UPDATE worker SET state = 'offline', pid = NULL WHERE state <> 'offline'

-- ============================================================================ events and outbox

-- name: write-event
INSERT INTO event (at, actor, what, job, subject, facts) VALUES (:at, :actor, :what, :job, :subject, :facts)

-- name: write-outbox
INSERT INTO outbox (url, seq, body) VALUES (:url, :seq, :body)

-- name: events
SELECT seq, at, actor, what, subject, facts FROM event WHERE seq > :since ORDER BY seq LIMIT :limit

-- name: events-of-job
SELECT seq, at, actor, what, subject, facts FROM event WHERE job = :job AND seq > :since ORDER BY seq LIMIT :limit

-- name: last-events-of-job
SELECT * FROM (
    SELECT seq, at, actor, what, subject, facts FROM event WHERE job = :job ORDER BY seq DESC LIMIT :most)
ORDER BY seq

-- name: outbox-first
SELECT seq, url, tries, body, not_before FROM outbox WHERE url = :url ORDER BY seq LIMIT 1

-- name: outbox-sent
DELETE FROM outbox WHERE url = :url AND seq = :seq

-- name: outbox-tries
SELECT tries FROM outbox WHERE url = :url AND seq = :seq

-- name: outbox-unsent
UPDATE outbox SET tries = tries + 1, not_before = :not_before, why = :why WHERE url = :url AND seq = :seq

-- ============================================================================ drops and jobs

-- name: drop
SELECT sha256, name, state, job, at FROM "drop" WHERE sha256 = :sha256

-- name: note-drop
INSERT INTO "drop" (sha256, name, state, job, at) VALUES (:sha256, :name, :state, :job, :at)
ON CONFLICT (sha256) DO UPDATE SET name = excluded.name, state = excluded.state, job = excluded.job

-- name: revisions
SELECT count(*) AS count FROM job WHERE name = :name

-- name: job
SELECT * FROM job WHERE id = :id

-- name: first-of
-- The first revision of a job, and whether it is the first job of its name.
SELECT id, turn = (SELECT min(turn) FROM job WHERE name = :name) AS first
FROM job WHERE name = :name AND deliver_to = :deliver_to ORDER BY turn LIMIT 1

-- name: newest
SELECT 1 FROM job WHERE id = :id
    AND NOT EXISTS (SELECT 1 FROM job AS later WHERE later.name = job.name AND later.deliver_to = job.deliver_to
                    AND later.turn > job.turn)

-- name: job-of-turn
SELECT * FROM job WHERE turn = :turn

-- name: jobs
SELECT * FROM job WHERE :state IS NULL OR state = :state ORDER BY turn

-- name: insert-job
INSERT INTO job (id, name, revision, priority, sha256, folder, deliver_to, cut, raw, movie, submission, warnings, at)
VALUES (:id, :name, :revision, :priority, :sha256, :folder, :deliver_to, :cut, :raw, :movie, :submission, :warnings,
        :at)

-- name: insert-document
INSERT INTO document (text) VALUES (:text)

-- name: insert-shot
INSERT INTO shot (job, name, position, priority, state, found, segments, document, need_memory, need_disk, seed)
VALUES (:job, :name, :position, :priority, :state, :found, :segments, :document, :need_memory, :need_disk, :seed)

-- name: insert-held
INSERT INTO shot (job, name, position, priority, state, fault)
VALUES (:job, :name, :position, :priority, 'held', :fault)

-- name: insert-chain
INSERT INTO chain (shot, idx, segment) VALUES (:shot, :idx, :segment)

-- name: know-segment
-- What the plan saw is believed unless somebody has known better since; what runs is left alone, what failed may again.
INSERT INTO segment (key, prev, state, work, told)
VALUES (:key, :prev, iif(:finished, 'done', 'cancelled'), :work, :seen)
ON CONFLICT (key) DO UPDATE SET
    state = CASE
        WHEN state IN ('leased', 'publishing') THEN state
        WHEN told > :seen OR :seen = 0 THEN iif(state = 'failed', 'cancelled', state)
        WHEN :finished THEN 'done'
        WHEN state IN ('done', 'failed') THEN 'cancelled'
        ELSE state END,
    told = max(told, :seen),
    tries = iif(state IN ('failed', 'cancelled'), 0, tries),
    careful = iif(state IN ('failed', 'cancelled'), 0, careful),
    not_before = iif(state IN ('failed', 'cancelled'), 0, not_before),
    losses = iif(state IN ('failed', 'cancelled'), 0, losses)
RETURNING id

-- name: replace-document
UPDATE shot
SET state = :state, found = :found, segments = :segments, document = :document, need_memory = :need_memory,
    need_disk = :need_disk, reason = '', fault = NULL, by_itself = 0, not_before = 0, holds = 0, tries = 0
WHERE id = :shot

-- name: cut-chain
DELETE FROM chain WHERE shot = :shot

-- name: earlier-shots
-- Shots of earlier revisions that something may still come of; whether the new job has one of the name, and the same.
SELECT old.*, job.id AS job_id, new.id AS new,
       (SELECT segment FROM chain WHERE shot = old.id ORDER BY idx DESC LIMIT 1)
       IS (SELECT segment FROM chain WHERE shot = new.id ORDER BY idx DESC LIMIT 1) AS same
FROM job CROSS JOIN shot AS old ON old.job = job.turn LEFT JOIN shot AS new ON new.job = :turn AND new.name = old.name
WHERE job.name = :name AND job.deliver_to = :deliver_to AND job.turn < :turn
    AND old.state IN ('open', 'rendered', 'held', 'retrying')
ORDER BY old.job, old.position

-- name: warn-of-job
UPDATE job SET warnings = :warnings WHERE turn = :turn

-- name: shots-become
UPDATE shot SET became = :turn
WHERE job IN (SELECT turn FROM job WHERE name = :name AND deliver_to = :deliver_to AND turn < :turn)
    AND name IN (SELECT name FROM shot WHERE job = :turn)

-- name: count-segments
SELECT count(*) AS all_of_them, coalesce(sum(state = 'done' OR found), 0) AS done
FROM (SELECT segment.state, max(shot.found) AS found
      FROM shot JOIN chain ON chain.shot = shot.id JOIN segment ON segment.id = chain.segment
      WHERE shot.job = :job AND (:these IS NULL OR shot.id IN (SELECT value FROM json_each(:these)))
      GROUP BY segment.id)

-- name: set-job-state
UPDATE job SET state = :state WHERE turn = :turn

-- name: job-started
UPDATE job SET started = 1 WHERE turn = :turn AND started = 0

-- name: job-changed
UPDATE job SET changes = changes + 1 WHERE turn = :turn

-- ============================================================================ what follows from what

-- name: forget-touched
DELETE FROM touched

-- name: touch-segment
INSERT OR IGNORE INTO touched
SELECT id FROM segment WHERE id = :segment UNION SELECT id FROM segment WHERE prev = :segment

-- name: touch-shot
INSERT OR IGNORE INTO touched
SELECT segment FROM chain WHERE shot = :shot
UNION SELECT segment.id FROM chain CROSS JOIN segment ON segment.prev = chain.segment WHERE chain.shot = :shot

-- name: touch-job
INSERT OR IGNORE INTO touched
SELECT chain.segment FROM shot JOIN chain ON chain.shot = shot.id WHERE shot.job = :job
UNION
SELECT segment.id FROM shot CROSS JOIN chain ON chain.shot = shot.id CROSS JOIN segment ON segment.prev = chain.segment
WHERE shot.job = :job

-- name: settle-shots
-- A shot is rendered when all its segments are done, and open when not; a take that was found needs none of them.
UPDATE shot SET state = iif(state = 'open', 'rendered', 'open'), not_before = 0
WHERE id IN (SELECT chain.shot FROM touched CROSS JOIN chain ON chain.segment = touched.segment)
    AND state IN ('open', 'rendered') AND found = 0
    AND (state = 'rendered') = EXISTS (
        SELECT 1 FROM chain CROSS JOIN segment ON segment.id = chain.segment
        WHERE chain.shot = shot.id AND segment.state <> 'done')
RETURNING id, state, name, (SELECT id FROM job WHERE turn = shot.job) AS job_id

-- name: settle-segments
-- The state of a segment that nobody has is what the shots that want it, its pause and the one before it make of it.
UPDATE segment
SET state = CASE
        WHEN NOT EXISTS (
            SELECT 1 FROM chain CROSS JOIN shot ON shot.id = chain.shot
            WHERE chain.segment = segment.id AND shot.state IN ('open', 'held')) THEN 'cancelled'
        WHEN paused THEN 'held'
        WHEN prev IS NULL OR (SELECT before.state FROM segment AS before WHERE before.id = segment.prev) = 'done'
            THEN 'ready'
        ELSE 'blocked' END
WHERE id IN (SELECT segment FROM touched) AND state IN ('blocked', 'ready', 'held', 'cancelled')

-- ============================================================================ shots

-- name: shot
SELECT shot.*, job.id AS job_id FROM shot JOIN job ON job.turn = shot.job WHERE shot.id = :shot

-- name: shot-named
SELECT shot.*, job.id AS job_id FROM shot JOIN job ON job.turn = shot.job WHERE shot.job = :job AND shot.name = :name

-- name: shots
SELECT shot.*, job.id AS job_id,
       (SELECT count(*) FROM chain JOIN segment ON segment.id = chain.segment
        WHERE chain.shot = shot.id AND (segment.state = 'done' OR shot.state IN ('rendered', 'done'))) AS done
FROM shot JOIN job ON job.turn = shot.job WHERE shot.job = :job ORDER BY shot.position

-- name: shots-of-job
SELECT shot.*, job.id AS job_id FROM shot JOIN job ON job.turn = shot.job WHERE shot.job = :job ORDER BY shot.position

-- name: shots-in-trouble
SELECT shot.*, job.id AS job_id FROM shot JOIN job ON job.turn = shot.job
WHERE shot.job = :job AND shot.state IN ('failed', 'held', 'retrying') ORDER BY shot.position LIMIT :most

-- name: first-shot
-- The first shot of a job that is on its way.
SELECT shot.*, job.id AS job_id FROM shot JOIN job ON job.turn = shot.job
WHERE shot.job = :job AND shot.state IN ('open', 'rendered') ORDER BY shot.position LIMIT 1

-- name: shots-that-want
SELECT shot.*, job.id AS job_id
FROM chain CROSS JOIN shot ON shot.id = chain.shot CROSS JOIN job ON job.turn = shot.job
WHERE chain.segment = :segment AND shot.state IN ('open', 'held') ORDER BY shot.job, shot.position

-- name: move-shot
UPDATE shot
SET state = :state, reason = :reason, fault = :fault, by_itself = :by_itself, not_before = :not_before, holds = :holds
WHERE id = :shot

-- name: due-shots
SELECT shot.*, job.id AS job_id FROM shot CROSS JOIN job ON job.turn = shot.job
WHERE shot.state = 'held' AND shot.by_itself = 1
    AND (shot.not_before <= :now OR shot.not_before > :now + :longest)

-- name: forget-holds
UPDATE shot SET holds = 0 WHERE holds > 0 AND id IN (SELECT shot FROM chain WHERE segment = :segment)

-- ============================================================================ leases

-- name: any-ready
SELECT EXISTS (SELECT 1 FROM claimable WHERE not_before <= :now OR not_before > :now + :longest)
    OR EXISTS (SELECT 1 FROM shot WHERE state = 'held' AND by_itself = 1
               AND (not_before <= :now OR not_before > :now + :longest)) AS found

-- name: next-in-queue
SELECT claimable.*, job.id AS job_id FROM claimable CROSS JOIN job ON job.turn = claimable.job
ORDER BY claimable.priority DESC, claimable.job, claimable.position, claimable.idx LIMIT 1

-- name: lease
-- The first of the queue that this worker may have: by priority, then job, then place in the cut. With :shy, chains that
-- other live workers are at are left to them. A block counts as long as another worker could do it.
SELECT shot, idx, segment, priority,
       shot IN (
           SELECT last_shot FROM worker
           WHERE slot <> :worker AND state IN ('idle', 'busy') AND last_shot IS NOT NULL) AS of_another
FROM claimable
WHERE priority BETWEEN :least AND :most
    AND need_memory <= :free_memory AND need_disk <= :free_disk
    AND (not_before <= :now OR not_before > :now + :longest)
    AND NOT (:shy AND shot IN (
        SELECT last_shot FROM worker
        WHERE slot <> :worker AND state IN ('idle', 'busy') AND last_shot IS NOT NULL))
    AND NOT EXISTS (
        SELECT 1 FROM block
        WHERE block.worker = :worker AND block.shot = claimable.shot AND block.until BETWEEN :now AND :forgiven
            AND EXISTS (
                SELECT 1 FROM worker AS other
                WHERE other.slot <> :worker AND other.slot GLOB :renders AND other.state IN ('idle', 'busy')
                    AND other.blocked_until NOT BETWEEN :now AND :forgiven
                    AND NOT EXISTS (
                        SELECT 1 FROM block AS theirs
                        WHERE theirs.worker = other.slot AND theirs.shot = claimable.shot
                            AND theirs.until BETWEEN :now AND :forgiven)))
ORDER BY priority DESC, job, position, idx LIMIT 1

-- name: lease-of-chain
-- The same for the one shot whose chain the worker is at.
SELECT shot, idx, segment, priority FROM claimable
WHERE shot = (SELECT last_shot FROM worker WHERE slot = :worker) AND priority >= :least
    AND need_memory <= :free_memory AND need_disk <= :free_disk
    AND (not_before <= :now OR not_before > :now + :longest)
    AND NOT EXISTS (SELECT 1 FROM block WHERE block.worker = :worker AND block.shot = claimable.shot
                    AND block.until BETWEEN :now AND :forgiven)
ORDER BY idx LIMIT 1

-- name: insert-attempt
INSERT INTO attempt (segment, token, shot, idx, document, worker, boot, pid, pid_start, careful, work, t0)
SELECT segment.id, segment.token + 1, shot.id, :idx, shot.document, :worker, :boot, :pid, :pid_start, segment.careful,
       segment.work, :now
FROM segment, shot WHERE segment.id = :segment AND shot.id = :shot

-- name: lease-segment
UPDATE segment SET state = 'leased', token = token + 1, attempt = :attempt, step = 0, steps = 0 WHERE id = :segment

-- name: worker-at
UPDATE worker SET last_shot = :shot WHERE slot = :slot

-- name: running
SELECT leased.*, document.text FROM leased JOIN document ON document.id = leased.document ORDER BY attempt

-- name: running-at
SELECT leased.*, document.text FROM leased JOIN document ON document.id = leased.document WHERE attempt = :attempt

-- name: unwanted
SELECT leased.*, document.text FROM leased JOIN document ON document.id = leased.document
WHERE leased.state = 'leased' AND (leased.paused OR NOT EXISTS (
    SELECT 1 FROM chain CROSS JOIN shot ON shot.id = chain.shot
    WHERE chain.segment = leased.segment AND shot.state = 'open' AND shot.paused = 0 AND shot.job_paused = 0))
ORDER BY attempt

-- name: holder
-- The lease of a key under a token, while it is the newest; nothing for a stale one.
SELECT leased.* FROM segment JOIN leased ON leased.segment = segment.id
WHERE segment.key = :key AND segment.token = :token

-- name: beat
UPDATE segment SET step = :step, steps = :of
WHERE key = :key AND token = :token AND state IN ('leased', 'publishing')

-- name: publish
UPDATE segment SET state = 'publishing' WHERE id = :segment

-- name: end-attempt
UPDATE attempt
SET t1 = :now, class = :class, rc = :rc, signal = :signal, fault = :fault, seconds = :seconds,
    step_seconds = :step_seconds, peak_bytes = :peak_bytes
WHERE id = :attempt

-- name: finish-segment
UPDATE segment
SET state = 'done', paused = 0, tries = 0, losses = 0, careful = 0, not_before = 0, attempt = NULL, told = :told,
    fault = NULL
WHERE id = :segment

-- name: give-back
-- What state it comes to is settled afterwards.
UPDATE segment
SET state = :state, tries = :tries, losses = losses + :lost, careful = :careful, not_before = :not_before,
    attempt = NULL, fault = coalesce(:fault, fault)
WHERE id = :segment

-- name: segment
SELECT * FROM segment WHERE key = :key

-- name: segments-in
SELECT * FROM segment WHERE key >= :folder AND key < :folder || 'g'

-- name: reopen-segment
UPDATE segment
SET state = 'cancelled', tries = 0, losses = 0, careful = 0, not_before = 0, told = :told
WHERE id = :segment

-- name: reopen-found
UPDATE shot SET found = 0
WHERE found = 1 AND state = 'rendered' AND id IN (SELECT shot FROM chain WHERE segment = :segment)

-- name: measured
SELECT sum(work) AS work, sum(seconds) AS seconds
FROM (SELECT work, seconds FROM attempt WHERE class = 'done' AND seconds > 0 ORDER BY id DESC LIMIT :most)

-- name: forget-backoffs
UPDATE segment SET tries = 0, not_before = 0
WHERE not_before > 0 AND state IN ('ready', 'blocked', 'held') AND id IN (SELECT segment FROM chain WHERE shot = :shot)

-- ============================================================================ workers

-- name: worker
INSERT INTO worker (slot, state, pid) VALUES (:slot, :state, :pid)
ON CONFLICT (slot) DO UPDATE SET state = excluded.state, pid = excluded.pid

-- name: worker-known
INSERT OR IGNORE INTO worker (slot, state) VALUES (:slot, 'busy')

-- name: worker-online
UPDATE worker SET state = 'busy' WHERE slot = :slot AND state = 'offline'

-- name: worker-blocked
-- Whether a worker is blocked, and whether another one that renders is not.
SELECT blocked_until BETWEEN :now AND :forgiven AS blocked, blocked_until,
       EXISTS (SELECT 1 FROM worker AS other
               WHERE other.slot <> :slot AND other.slot GLOB :renders AND other.state IN ('idle', 'busy')
                   AND other.blocked_until NOT BETWEEN :now AND :forgiven) AS others
FROM worker WHERE slot = :slot

-- name: worker-forgiven
UPDATE worker SET failures = 0, blocked_until = 0 WHERE slot = :slot AND (failures > 0 OR blocked_until > 0)

-- name: worker-failed
UPDATE worker SET failures = failures + 1 WHERE slot = :slot RETURNING failures

-- name: block-worker
UPDATE worker SET blocked_until = :until WHERE slot = :slot

-- name: shot-failed-on
INSERT INTO block (worker, shot, failures) VALUES (:worker, :shot, 1)
ON CONFLICT (worker, shot) DO UPDATE SET failures = failures + 1
RETURNING failures

-- name: block-shot
UPDATE block SET until = :until WHERE worker = :worker AND shot = :shot

-- name: forget-block
DELETE FROM block WHERE worker = :worker AND shot = :shot

-- name: forget-blocks
DELETE FROM block WHERE shot = :shot

-- ============================================================================ deliveries

-- name: to-deliver
SELECT shot.id AS shot, shot.name, shot.tries, job.id AS job, job.deliver_to, job.raw, job.movie, document.text
FROM shot CROSS JOIN job ON job.turn = shot.job CROSS JOIN document ON document.id = shot.document
WHERE shot.state = 'rendered' AND shot.paused = 0 AND shot.job_paused = 0
    AND (shot.not_before <= :now OR shot.not_before > :now + :longest)
ORDER BY shot.priority DESC, shot.job, shot.position LIMIT 1

-- name: deliver-shot
UPDATE shot
SET state = 'done', folder = :folder, version = :version, found = 0, reason = '', fault = NULL, by_itself = 0,
    not_before = 0, holds = 0, tries = 0
WHERE id = :shot

-- name: delivery-again
UPDATE shot SET tries = tries + 1, not_before = :not_before, fault = :fault WHERE id = :shot

-- name: to-close
-- Jobs with nothing left whose cut nobody waits for: those a later revision has followed, and those all cancelled.
SELECT turn, id,
       EXISTS (SELECT 1 FROM shot WHERE job = turn AND state = 'failed') AS failed,
       NOT EXISTS (SELECT 1 FROM shot WHERE job = turn AND state <> 'cancelled') AS cancelled
FROM job
WHERE state = 'open'
    AND NOT EXISTS (SELECT 1 FROM shot WHERE job = turn AND state IN ('open', 'rendered', 'held', 'retrying'))
    AND (EXISTS (SELECT 1 FROM job AS later WHERE later.name = job.name AND later.deliver_to = job.deliver_to
                    AND later.turn > job.turn)
         OR (EXISTS (SELECT 1 FROM shot WHERE job = turn)
             AND NOT EXISTS (SELECT 1 FROM shot WHERE job = turn AND state <> 'cancelled')))

-- name: to-return
SELECT * FROM job
WHERE state = 'open' AND paused = 0 AND changes > answered
    AND NOT EXISTS (SELECT 1 FROM job AS later WHERE later.name = job.name AND later.deliver_to = job.deliver_to
                    AND later.turn > job.turn)
    AND NOT EXISTS (SELECT 1 FROM shot WHERE job = turn AND state IN ('open', 'rendered', 'retrying'))
    AND NOT EXISTS (SELECT 1 FROM shot WHERE job = turn AND state = 'held' AND by_itself = 1 AND holds < :patience)
ORDER BY priority DESC, turn

-- name: ask-return
UPDATE job SET asked = changes WHERE turn = :turn AND asked <> changes

-- name: takes
SELECT folder FROM shot WHERE job = :job AND folder IS NOT NULL ORDER BY position

-- name: faults
SELECT fault FROM shot WHERE job = :job AND fault IS NOT NULL AND state IN ('failed', 'held') ORDER BY position

-- name: return-job
UPDATE job SET answered = asked, returned = coalesce(:path, returned), fault = NULL WHERE turn = :turn

-- name: return-failed
UPDATE job SET fault = :fault WHERE turn = :turn

-- name: left-over
SELECT count(*) AS shots, coalesce(sum(state = 'failed'), 0) AS failed,
       coalesce(sum(state NOT IN ('done', 'failed', 'cancelled')), 0) AS left_over
FROM shot WHERE job = :job

-- ============================================================================ control

-- name: shots-by-name
SELECT shot.*, job.id AS job_id, job.state AS job_state FROM shot JOIN job ON job.turn = shot.job
WHERE shot.name = :name ORDER BY shot.job

-- name: known-names
SELECT id AS name FROM job UNION SELECT shot.name FROM shot JOIN job ON job.turn = shot.job
WHERE :job IS NULL AND job.state = 'open' OR shot.job = :job

-- name: segment-of
SELECT segment.*, chain.idx FROM chain JOIN segment ON segment.id = chain.segment
WHERE chain.shot = :shot AND chain.idx = :idx

-- name: segments-of
SELECT segment.*, chain.idx FROM chain JOIN segment ON segment.id = chain.segment
WHERE chain.shot = :shot ORDER BY chain.idx

-- name: sharers
SELECT job.id || '/' || shot.name AS name
FROM chain CROSS JOIN shot ON shot.id = chain.shot CROSS JOIN job ON job.turn = shot.job
WHERE chain.segment = :segment AND shot.id <> :shot AND shot.state IN ('open', 'held') ORDER BY shot.job, shot.position

-- name: pause-job
UPDATE job SET paused = :paused WHERE turn = :turn

-- name: pause-shots-of-job
UPDATE shot SET job_paused = :paused WHERE job = :turn

-- name: pause-shot
UPDATE shot SET paused = :paused WHERE id = :shot

-- name: pause-segment
UPDATE segment SET paused = :paused WHERE id = :segment

-- name: prioritise-job
UPDATE job SET priority = :priority WHERE turn = :turn

-- name: prioritise-shots-of-job
UPDATE shot SET priority = :priority WHERE job = :turn

-- name: prioritise-shot
UPDATE shot SET priority = :priority WHERE id = :shot

-- name: retry-shot
UPDATE shot SET seed = coalesce(:seed, seed), holds = 0, tries = 0 WHERE id = :shot

-- name: forget-wait
UPDATE shot SET not_before = 0, tries = 0, fault = NULL WHERE id = :shot AND not_before > 0

-- name: retrying
SELECT shot.name, shot.seed, job.id AS job, job.submission, job.folder
FROM shot JOIN job ON job.turn = shot.job WHERE shot.state = 'retrying' ORDER BY shot.job, shot.position

-- name: seeds
SELECT name, seed FROM shot WHERE job = :job AND seed IS NOT NULL

-- ============================================================================ garbage

-- name: scratch
SELECT DISTINCT segment.key FROM segment JOIN chain ON chain.segment = segment.id JOIN shot ON shot.id = chain.shot
WHERE shot.state IN ('open', 'rendered', 'held', 'retrying')
UNION SELECT key FROM leased

-- name: sweep-documents
-- Documents that neither a job that may go on nor a segment at work reads from.
DELETE FROM document
WHERE id NOT IN (SELECT document FROM attempt WHERE class IS NULL AND document IS NOT NULL)
    AND id NOT IN (SELECT shot.document FROM shot JOIN job ON job.turn = shot.job
                   WHERE job.state = 'open' AND shot.document IS NOT NULL)

-- ============================================================================ standing

-- name: status-jobs
SELECT * FROM (SELECT * FROM job WHERE state = 'open'
               UNION SELECT * FROM (SELECT * FROM job WHERE state <> 'open' ORDER BY turn DESC LIMIT :most))
ORDER BY priority DESC, turn

-- name: status-shots
SELECT state, count(*) AS shots, sum(segments) AS segments, max(paused) AS paused
FROM shot WHERE job = :job GROUP BY state

-- name: status-segments
-- Segments of a job's open shots that are done.
SELECT count(*) AS done
FROM shot CROSS JOIN chain ON chain.shot = shot.id CROSS JOIN segment ON segment.id = chain.segment
WHERE shot.job = :job AND shot.state IN ('open', 'held', 'failed', 'cancelled', 'retrying') AND segment.state = 'done'

-- name: status-work
-- Work that open shots wait for, each segment counted once, for the first job of the queue that wants it.
SELECT turn, sum(work) AS work
FROM (SELECT shot.job AS turn, segment.work * (1 - iif(segment.steps > 0, 1.0 * segment.step / segment.steps, 0)) AS work,
             max(shot.priority * 1000000000 - shot.job)
      FROM shot CROSS JOIN chain ON chain.shot = shot.id CROSS JOIN segment ON segment.id = chain.segment
      WHERE shot.state = 'open' AND segment.state <> 'done'
      GROUP BY segment.id)
GROUP BY turn

-- name: status-workers
SELECT * FROM worker ORDER BY slot

-- name: status-running
SELECT * FROM leased ORDER BY attempt

-- name: attempts
SELECT attempt.*, segment.key FROM attempt JOIN segment ON segment.id = attempt.segment
WHERE attempt.segment = :segment AND attempt.class IS NOT NULL ORDER BY attempt.id DESC LIMIT :most

-- name: attempts-of-shot
SELECT attempt.*, segment.key FROM attempt JOIN segment ON segment.id = attempt.segment
WHERE attempt.shot = :shot AND attempt.class IS NOT NULL ORDER BY attempt.id DESC LIMIT :most

-- name: blocks
SELECT worker, failures, until FROM block WHERE shot = :shot AND until BETWEEN :now AND :forgiven ORDER BY worker

-- name: ahead
-- Segments that are before a shot in the queue.
SELECT count(*) AS segments FROM claimable
WHERE priority > :priority OR (priority = :priority AND (job < :job OR (job = :job AND position < :position)))

-- name: deliveries-ahead
SELECT count(*) AS shots FROM shot
WHERE state = 'rendered' AND paused = 0 AND job_paused = 0
    AND (priority > :priority OR (priority = :priority AND (job < :job OR (job = :job AND position < :position))))
