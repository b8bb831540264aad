/*
 * egress_list.c
 *	  The entries of evstore.egress_allow.
 *
 * Here and not beside the relays, because the setting's check hook needs it.
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include "base/egress_list.h"

/* Longest entry: brackets, an address, a prefix length and a port are shorter. */
#define ENTRY_MAX (EVS_HOST_MAX + sizeof("*.:65535"))

/* ---- addresses ---- */

static void
unmap(EvsAddress *address)
{
	static const uint8 mapped[12] = {[10] = 0xff, [11] = 0xff};

	if (address->family != AF_INET6 || memcmp(address->bytes, mapped, sizeof(mapped)) != 0)
		return;
	address->family = AF_INET;
	address->bits = 32;
	memmove(address->bytes, address->bytes + sizeof(mapped), 4);
}

bool
evs_address_parse(const char *text, EvsAddress *address)
{
	char		copy[INET6_ADDRSTRLEN];
	Size		length = strcspn(text, "%");

	if (length >= sizeof(copy) || (text[length] == '%' && memchr(text, ':', length) == NULL))
		return false;
	memcpy(copy, text, length);
	copy[length] = '\0';
	memset(address, 0, sizeof(*address));
	address->family = strchr(copy, ':') != NULL ? AF_INET6 : AF_INET;
	address->bits = address->family == AF_INET6 ? 128 : 32;
	if (inet_pton(address->family, copy, address->bytes) != 1)
		return false;
	unmap(address);
	return true;
}

bool
evs_address_is_in(const EvsAddress *address, const EvsAddress *range)
{
	int			whole = range->bits / 8;
	int			rest = range->bits % 8;
	uint8		mask = (uint8) (0xff << (8 - rest));

	return address->family == range->family && address->bits >= range->bits &&
		memcmp(address->bytes, range->bytes, whole) == 0 &&
		(rest == 0 || (address->bytes[whole] & mask) == (range->bytes[whole] & mask));
}

/* ---- names ---- */

bool
evs_host_normalise(const char *host, int length, char name[EVS_HOST_MAX + 1])
{
	if (length > 0 && host[length - 1] == '.')
		length--;
	if (length == 0 || length > EVS_HOST_MAX)
		return false;
	for (int i = 0; i < length; i++)
	{
		char		c = host[i];

		name[i] = c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c;
	}
	name[length] = '\0';
	return true;
}

/* Labels of letters, digits, - and _, not empty; a last one of digits only is an address's. */
static bool
is_host_name(const char *name)
{
	const char *label = name;
	bool		numeric = true;

	for (const char *s = name;; s++)
	{
		if (*s == '.' || *s == '\0')
		{
			if (s == label)
				return false;
			if (*s == '\0')
				return !numeric;
			label = s + 1;
			numeric = true;
		}
		else if (*s < '0' || *s > '9')
		{
			if (!(*s >= 'a' && *s <= 'z') && *s != '-' && *s != '_')
				return false;
			numeric = false;
		}
	}
}

/* ---- entries ---- */

/* A number from 0 or 1 to max, without a sign; -1 if it is none. */
static int
parse_number(const char *text, int min, int max)
{
	int			number = 0;

	if (*text == '\0' || strlen(text) > 5 || text[strspn(text, "0123456789")] != '\0')
		return -1;
	for (; *text != '\0'; text++)
		number = number * 10 + (*text - '0');
	return number >= min && number <= max ? number : -1;
}

static bool
parse_port(const char *text, EvsEgressEntry *entry)
{
	entry->port = parse_number(text, 1, 65535);
	return entry->port > 0;
}

/* An address, or a range: an address, / and a number of bits. */
static bool
parse_range(char *text, EvsAddress *range)
{
	char	   *slash = strchr(text, '/');
	int			bits;

	if (slash != NULL)
		*slash = '\0';
	if (strchr(text, '%') != NULL || !evs_address_parse(text, range))
		return false;
	if (slash == NULL)
		return true;
	/* of a range that is written as one of IPv6 the bits would be others */
	if (range->family == AF_INET && strchr(text, ':') != NULL)
		return false;
	bits = parse_number(slash + 1, 0, range->bits);
	range->bits = bits;
	return bits >= 0;
}

/* Cut "[address]:port" or "host:port" at the port; several colons are IPv6. */
static bool
split_port(char *text, char **host, EvsEgressEntry *entry)
{
	char	   *colon;

	if (*text == '[')
	{
		char	   *end = strchr(text, ']');

		if (end == NULL || memchr(text, ':', end - text) == NULL)
			return false;
		*end = '\0';
		*host = text + 1;
		return end[1] == '\0' || (end[1] == ':' && parse_port(end + 2, entry));
	}
	*host = text;
	colon = strchr(text, ':');
	if (colon == NULL || strchr(colon + 1, ':') != NULL)
		return true;
	*colon = '\0';
	return parse_port(colon + 1, entry);
}

static bool
parse_host(char *host, EvsEgressEntry *entry)
{
	if (strcmp(host, "*") == 0)
	{
		entry->kind = EVS_EGRESS_ANY_NAME;
		return true;
	}
	if (strchr(host, ':') != NULL || strchr(host, '/') != NULL ||
		evs_address_parse(host, &entry->address))
	{
		entry->kind = EVS_EGRESS_ADDRESS;
		return parse_range(host, &entry->address);
	}
	entry->kind = strncmp(host, "*.", 2) == 0 ? EVS_EGRESS_SUFFIX : EVS_EGRESS_NAME;
	if (entry->kind == EVS_EGRESS_SUFFIX)
		host++;
	/* a socket has no port, and a host of this name would be taken for one */
	else if (pg_strcasecmp(host, "unix") == 0)
		return false;
	return evs_host_normalise(host, strlen(host), entry->name) &&
		is_host_name(entry->kind == EVS_EGRESS_SUFFIX ? entry->name + 1 : entry->name);
}

static bool
parse_entry(char *text, EvsEgressEntry *entry)
{
	char	   *host;

	memset(entry, 0, sizeof(*entry));
	if (pg_strcasecmp(text, "unix") == 0)
	{
		entry->kind = EVS_EGRESS_UNIX;
		return true;
	}
	return split_port(text, &host, entry) && parse_host(host, entry);
}

int
evs_egress_next(const char **list, EvsEgressEntry *entry)
{
	const char *s = *list + strspn(*list, " \t\r\n");
	Size		length = strcspn(s, ",");
	char		text[ENTRY_MAX];

	if (*s == '\0')
		return 0;
	*list = s + length + (s[length] == ',' ? 1 : 0);
	/* a comma at the end would have an entry after it */
	if (s[length] == ',' && (*list)[strspn(*list, " \t\r\n")] == '\0')
		return -1;
	while (length > 0 && strchr(" \t\r\n", s[length - 1]) != NULL)
		length--;
	if (length == 0 || length >= sizeof(text))
		return -1;
	memcpy(text, s, length);
	text[length] = '\0';
	return parse_entry(text, entry) ? 1 : -1;
}
