/*
 * launcher.h
 *	  The process that starts dispatchers.
 */
#ifndef EVSTORE_LAUNCHER_H
#define EVSTORE_LAUNCHER_H

/* In _PG_init(), when the library is being preloaded. */
extern void evs_launcher_init(void);

/* Does evstore.databases name it? */
extern bool evs_launcher_lists(const char *name);

#endif							/* EVSTORE_LAUNCHER_H */
