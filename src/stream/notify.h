/*
 * notify.h
 *	  NOTIFY by the appending transaction itself.
 */
#ifndef EVSTORE_NOTIFY_H
#define EVSTORE_NOTIFY_H

/* The current transaction has drawn positions up to this one. */
extern void evs_notify_appended(int64 position);

#endif							/* EVSTORE_NOTIFY_H */
