-- Tasks of activities: how long they are somebody's who does not say when he is done.

ALTER TABLE evstore.saga_step ADD COLUMN lease_until timestamptz;
CREATE INDEX saga_step_lease_idx ON evstore.saga_step (name, lease_until)
	WHERE kind = 'activity' AND status = 'running' AND lease_until IS NOT NULL;
COMMENT ON COLUMN evstore.saga_step.lease_until IS
	'of a task with neither a time-out nor a heartbeat that has been fetched: then it is given to others';
