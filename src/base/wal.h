/*
 * wal.h
 *	  How far the write-ahead log has to be on disk before others may hear of something.
 */
#ifndef EVSTORE_WAL_H
#define EVSTORE_WAL_H

#include "access/xlogdefs.h"

/* The end of what has been written to the log; to be flushed up to with XLogFlush(). */
extern XLogRecPtr evs_wal_end(void);

#endif							/* EVSTORE_WAL_H */
