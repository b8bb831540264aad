-- What pg_dump takes along.  Partitions of the log are ordinary tables to it.

SELECT pg_catalog.pg_extension_config_dump('evstore.stream', '');
SELECT pg_catalog.pg_extension_config_dump('evstore.stream_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('evstore.position_seq', '');
SELECT pg_catalog.pg_extension_config_dump('evstore.early_id', '');
SELECT pg_catalog.pg_extension_config_dump('evstore.audit', '');
SELECT pg_catalog.pg_extension_config_dump('evstore.audit_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('evstore.inbox_0', '');
SELECT pg_catalog.pg_extension_config_dump('evstore.inbox_1', '');
SELECT pg_catalog.pg_extension_config_dump('evstore.inbox_2', '');
SELECT pg_catalog.pg_extension_config_dump('evstore.inbox_3', '');
SELECT pg_catalog.pg_extension_config_dump('evstore.inbox_4', '');
SELECT pg_catalog.pg_extension_config_dump('evstore.inbox_5', '');
SELECT pg_catalog.pg_extension_config_dump('evstore.inbox_6', '');
SELECT pg_catalog.pg_extension_config_dump('evstore.inbox_7', '');
SELECT pg_catalog.pg_extension_config_dump('evstore.inbox_8', '');

SELECT pg_catalog.pg_extension_config_dump('evstore.subscription', '');
SELECT pg_catalog.pg_extension_config_dump('evstore.subscription_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('evstore.epoch_seq', '');
SELECT pg_catalog.pg_extension_config_dump('evstore.slot_state', '');
SELECT pg_catalog.pg_extension_config_dump('evstore.failed_event', '');

SELECT pg_catalog.pg_extension_config_dump('evstore.aggregate', '');
SELECT pg_catalog.pg_extension_config_dump('evstore.snapshot', '');

SELECT pg_catalog.pg_extension_config_dump('evstore.projection', '');
SELECT pg_catalog.pg_extension_config_dump('evstore.projection_error', '');

SELECT pg_catalog.pg_extension_config_dump('evstore.route', '');
SELECT pg_catalog.pg_extension_config_dump('evstore.route_observed', '');

SELECT pg_catalog.pg_extension_config_dump('evstore.saga_trigger', '');
SELECT pg_catalog.pg_extension_config_dump('evstore.saga_wait', '');

SELECT pg_catalog.pg_extension_config_dump('evstore.relay', '');
SELECT pg_catalog.pg_extension_config_dump('evstore.secret', '');

SELECT pg_catalog.pg_extension_config_dump('evstore.saga', '');
SELECT pg_catalog.pg_extension_config_dump('evstore.saga_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('evstore.saga_version', '');
SELECT pg_catalog.pg_extension_config_dump('evstore.saga_instance', '');
SELECT pg_catalog.pg_extension_config_dump('evstore.saga_step', '');
SELECT pg_catalog.pg_extension_config_dump('evstore.saga_mail', '');
SELECT pg_catalog.pg_extension_config_dump('evstore.saga_mail_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('evstore.saga_signal', '');
SELECT pg_catalog.pg_extension_config_dump('evstore.saga_arrival', '');
SELECT pg_catalog.pg_extension_config_dump('evstore.saga_taken', '');
SELECT pg_catalog.pg_extension_config_dump('evstore.saga_barrier', '');
