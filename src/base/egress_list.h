/*
 * egress_list.h
 *	  The entries of evstore.egress_allow.
 *
 * A list with commas in between.  An entry is
 *
 *		*						any name
 *		broker.example.com		a name
 *		*.example.com			names that end like this
 *		192.0.2.7, 2001:db8::7	an address
 *		192.0.2.0/24			a range of addresses
 *		unix					Unix-domain sockets
 *
 * each but the last with an optional port: :443, after an IPv6 address in brackets.
 */
#ifndef EVSTORE_EGRESS_LIST_H
#define EVSTORE_EGRESS_LIST_H

#include <sys/socket.h>

/* Longest name of a host, RFC 1035. */
#define EVS_HOST_MAX 253

/* An address, or the range of those that begin with so many bits. */
typedef struct EvsAddress
{
	int			family;			/* AF_INET or AF_INET6 */
	int			bits;
	uint8		bytes[16];		/* in network byte order */
} EvsAddress;

typedef enum EvsEgressKind
{
	EVS_EGRESS_ANY_NAME,
	EVS_EGRESS_NAME,
	EVS_EGRESS_SUFFIX,
	EVS_EGRESS_ADDRESS,
	EVS_EGRESS_UNIX
} EvsEgressKind;

typedef struct EvsEgressEntry
{
	EvsEgressKind kind;
	int			port;			/* 0 = any */
	EvsAddress	address;
	char		name[EVS_HOST_MAX + 1]; /* lower case; of a suffix, the dot too */
} EvsEgressEntry;

/*
 * Take the next entry from a list.  1: there is one; 0: there is none; -1: it cannot be
 * understood.  Neither throws nor allocates.
 */
extern int	evs_egress_next(const char **list, EvsEgressEntry *entry);

/*
 * A numeric address, as it is resolved; false for a name.  One of IPv4 that is
 * written as one of IPv6 is one of IPv4.  A zone (%eth0) does not matter.
 */
extern bool evs_address_parse(const char *text, EvsAddress *address);

/* Is the address in the range? */
extern bool evs_address_is_in(const EvsAddress *address, const EvsAddress *range);

/* The name of a host as names are compared; false if it cannot be one. */
extern bool evs_host_normalise(const char *host, int length, char name[EVS_HOST_MAX + 1]);

#endif							/* EVSTORE_EGRESS_LIST_H */
