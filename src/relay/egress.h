/*
 * egress.h
 *	  Where relays may connect to: evstore.egress_allow.
 */
#ifndef EVSTORE_EGRESS_H
#define EVSTORE_EGRESS_H

/*
 * May a connection be made?  host is the name as configured, or a path for a
 * Unix-domain socket; address the numeric one that it was resolved to, or NULL before
 * that: then the answer is whether it is possible at all.  Addresses that are local
 * to a link, and those of clouds' metadata services, are refused unless an entry names
 * them.
 *
 * Asks the setting each time, so a connection that is made again obeys a change.
 * Does not throw or allocate.
 */
extern bool evs_egress_allowed(const char *host, const char *address, int port);

#endif							/* EVSTORE_EGRESS_H */
