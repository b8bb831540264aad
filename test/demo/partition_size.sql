-- Small partitions, so that 60,000 events fill several.

LOAD 'evstore';
SELECT format('ALTER DATABASE %I SET evstore.partition_size = 20000', current_database()) \gexec
