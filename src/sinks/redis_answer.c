/*
 * redis_answer.c
 *	  What the script and the server say, and what it means.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "redis_sink.h"

/* --- the script's answer --- */

static bool
read_uint(const char **at, const char *end, uint64_t *number)
{
	const char *start = *at;

	*number = 0;
	for (; *at < end && **at >= '0' && **at <= '9'; (*at)++)
		if (__builtin_mul_overflow(*number, 10, number) ||
			__builtin_add_overflow(*number, (uint64_t) (**at - '0'), number))
			return false;
	return *at > start;
}

/* ms-seq */
static bool
read_id(const EvsRedisValue *value, EvsRedisAnswer *answer)
{
	const char *at = value->text;
	const char *end = at + value->length;

	return value->type == '$' && at != NULL && read_uint(&at, end, &answer->ms) && at < end &&
		*at++ == '-' && read_uint(&at, end, &answer->seq) && at == end;
}

static bool
read_marks(const EvsRedisValue *value, EvsRedisAnswer *answer)
{
	if (value->type != '$' || value->text == NULL)
		return false;
	if (value->length == 0)
		return true;
	if (answer->done < 0 || value->length != (size_t) answer->done)
		return false;
	answer->marks = strndup(value->text, value->length);
	return answer->marks != NULL && strspn(answer->marks, "sld") == value->length;
}

bool
evs_redis_read_answer(const EvsRedisReply *reply, int n, EvsRedisAnswer *answer)
{
	const EvsRedisValue *items = reply->items;

	memset(answer, 0, sizeof(*answer));
	if (reply->value.type != '*' || reply->nitems != 5 || items[0].type != ':' ||
		items[0].number < -1 || items[0].number > n || items[3].type != '$' ||
		items[3].text == NULL || items[4].type != '$' || items[4].text == NULL)
		return false;
	answer->done = (int) items[0].number;
	evs_redis_copy_text(&items[3], answer->error, sizeof(answer->error));
	if (read_id(&items[1], answer) && read_marks(&items[2], answer) &&
		(answer->done < 0 || answer->done == n || answer->error[0] != '\0'))
		return true;
	free(answer->marks);
	answer->marks = NULL;
	return false;
}

/* --- errors --- */

typedef struct Class
{
	const char *begins;
	EvsRedisScope scope;
	evs_sink_class result;		/* with one stream */
	evs_sink_class other;		/* with {topic}: other streams may do */
} Class;

/* Redis 7.0 says this where others say NOPERM. */
#define DENIED_IN_SCRIPT "ERR The user executing the script "

/* What is not here is one message's fault, or may be. */
static const Class classes[] = {
	{"NOSCRIPT ", EVS_REDIS_OF_SCRIPT, EVS_SINK_RETRY_SINK, EVS_SINK_RETRY_SINK},
	{"READONLY ", EVS_REDIS_OF_SERVER, EVS_SINK_RETRY_SINK, EVS_SINK_RETRY_SINK},
	{"MASTERDOWN ", EVS_REDIS_OF_SERVER, EVS_SINK_RETRY_SINK, EVS_SINK_RETRY_SINK},
	{"LOADING ", EVS_REDIS_OF_SERVER, EVS_SINK_RETRY_SINK, EVS_SINK_RETRY_SINK},
	{"MOVED ", EVS_REDIS_OF_SERVER, EVS_SINK_RETRY_SINK, EVS_SINK_RETRY_SINK},
	{"ASK ", EVS_REDIS_OF_SERVER, EVS_SINK_RETRY_SINK, EVS_SINK_RETRY_SINK},
	{"CLUSTERDOWN ", EVS_REDIS_OF_SERVER, EVS_SINK_RETRY_SINK, EVS_SINK_RETRY_SINK},
	{"NOAUTH ", EVS_REDIS_OF_SERVER, EVS_SINK_RETRY_SINK, EVS_SINK_RETRY_SINK},
	{"UNBLOCKED ", EVS_REDIS_OF_SERVER, EVS_SINK_RETRY_SINK, EVS_SINK_RETRY_SINK},
	{"TRYAGAIN ", EVS_REDIS_OF_STREAM, EVS_SINK_RETRY_SINK, EVS_SINK_RETRY_SINK},
	{"OOM ", EVS_REDIS_OF_STREAM, EVS_SINK_RETRY_SINK, EVS_SINK_RETRY_SINK},
	{"MISCONF ", EVS_REDIS_OF_STREAM, EVS_SINK_RETRY_SINK, EVS_SINK_RETRY_SINK},
	{"NOREPLICAS ", EVS_REDIS_OF_STREAM, EVS_SINK_RETRY_SINK, EVS_SINK_RETRY_SINK},
	{"BUSY ", EVS_REDIS_OF_STREAM, EVS_SINK_RETRY_SINK, EVS_SINK_RETRY_SINK},
	{"NOPERM ", EVS_REDIS_OF_STREAM, EVS_SINK_RETRY_SINK, EVS_SINK_RETRY},
	{DENIED_IN_SCRIPT, EVS_REDIS_OF_STREAM, EVS_SINK_RETRY_SINK, EVS_SINK_RETRY},
	{"NOSTREAM ", EVS_REDIS_OF_STREAM, EVS_SINK_RETRY_SINK, EVS_SINK_RETRY},
	{"WRONGTYPE ", EVS_REDIS_OF_STREAM, EVS_SINK_FATAL, EVS_SINK_PERMANENT},
	{"ERR The stream has exhausted", EVS_REDIS_OF_STREAM, EVS_SINK_FATAL, EVS_SINK_PERMANENT},
	{"ERR unknown command", EVS_REDIS_OF_STREAM, EVS_SINK_FATAL, EVS_SINK_FATAL},
	{"ERR Unknown Redis command", EVS_REDIS_OF_STREAM, EVS_SINK_FATAL, EVS_SINK_FATAL},
	{"ERR Elements are too large", EVS_REDIS_OF_MESSAGE, EVS_SINK_PERMANENT, EVS_SINK_PERMANENT},
	{"ERR Protocol error: invalid bulk length", EVS_REDIS_OF_MESSAGE, EVS_SINK_PERMANENT, EVS_SINK_PERMANENT}
};

EvsRedisScope
evs_redis_classify(const EvsRedisConfig *config, const char *text, evs_sink_class *result)
{
	/* Before version 7 scripts see some errors as they stand on the wire. */
	if (*text == '-')
		text++;
	for (size_t i = 0; i < sizeof(classes) / sizeof(classes[0]); i++)
		if (strncmp(text, classes[i].begins, strlen(classes[i].begins)) == 0)
		{
			*result = config->one_stream ? classes[i].result : classes[i].other;
			return classes[i].scope;
		}
	*result = EVS_SINK_RETRY;
	return EVS_REDIS_OF_MESSAGE;
}

bool
evs_redis_is_denied(const char *text)
{
	return strncmp(text, "NOPERM ", 7) == 0 ||
		strncmp(text, DENIED_IN_SCRIPT, strlen(DENIED_IN_SCRIPT)) == 0;
}

/* MOVED 3999 127.0.0.1:6381: another node, which the administrator has to name. */
void
evs_redis_explain(const char *text, char *why, size_t size)
{
	const char *node = strrchr(text, ' ');

	if (strncmp(text, "MOVED ", 6) == 0 || strncmp(text, "ASK ", 4) == 0)
		snprintf(why, size, "the stream is on the node%s of the cluster, which \"servers\" has to "
				 "name: redirects are not followed (%.40s)", node, text);
	else
		snprintf(why, size, "the server refuses: %s", text);
}
