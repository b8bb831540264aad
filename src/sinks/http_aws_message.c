/*
 * http_aws_message.c
 *	  What SNS and SQS have in common: attributes, groups, texts.
 */
#include <ctype.h>
#include <openssl/evp.h>
#include <string.h>
#include <strings.h>

#include "http_aws.h"

#define NAME_MAX_LENGTH 256
#define GROUP_MAX_LENGTH 128

static bool
begins_with(const char *name, const char *prefix)
{
	return strncasecmp(name, prefix, strlen(prefix)) == 0;
}

/* What AWS takes as the name of an attribute. */
static bool
is_attribute_name(const char *name)
{
	size_t		length = strlen(name);

	if (length == 0 || length > NAME_MAX_LENGTH || name[0] == '.' || name[length - 1] == '.' ||
		strstr(name, "..") != NULL || begins_with(name, "AWS.") || begins_with(name, "Amazon."))
		return false;
	for (; *name != '\0'; name++)
		if ((unsigned char) *name >= 0x80 || (!isalnum((unsigned char) *name) && strchr("_-.", *name) == NULL))
			return false;
	return true;
}

/* The settings attributes.NAME */
bool
evs_aws_check_attributes(EvsHttpReader *reader)
{
	static const char prefix[] = "attributes.";
	int			n = 0;

	for (int i = 0; i < reader->settings->nitems; i++)
	{
		const char *name = reader->settings->items[i].name;
		const char *template;

		if (strncmp(name, prefix, strlen(prefix)) != 0)
			continue;
		if (!is_attribute_name(name + strlen(prefix)))
			return evs_http_fail(reader, "setting \"%s\": this cannot be the name of an attribute", name);
		if (!evs_http_read_template(reader, name, NULL, &template))
			return false;
		if (++n > EVS_AWS_ATTRIBUTES_MAX)
			return evs_http_fail(reader, "settings \"attributes\": a message can have %d attributes at most",
								 EVS_AWS_ATTRIBUTES_MAX);
	}
	return true;
}

typedef struct Adding
{
	EvsHttpRequest *request;
	const char *prefix;
	EvsAwsAddAttribute add;
	int			n;
	int64_t		bytes;
} Adding;

static bool
add_attribute(Adding *adding, const char *name, const char *type, const char *value)
{
	EvsHttpRequest *request = adding->request;

	/* AWS has no empty values. */
	if (value[0] == '\0')
		return true;
	if (!is_attribute_name(name) || !evs_http_is_xml_text(value, strlen(value)))
		evs_http_result(request, EVS_SINK_PERMANENT,
						"\"%s\" cannot be an attribute: a name or value is not possible in AWS", name);
	else if (adding->n == EVS_AWS_ATTRIBUTES_MAX)
		evs_http_result(request, EVS_SINK_PERMANENT, "the message has more than %d attributes", EVS_AWS_ATTRIBUTES_MAX);
	else
	{
		adding->add(&request->body, adding->prefix, adding->n++, name, type, value);
		adding->bytes += strlen(name) + strlen(type) + strlen(value);
		return true;
	}
	return false;
}

static bool
add_configured(Adding *adding, const evs_sink_message *message)
{
	const evs_sink_settings *settings = adding->request->sink->config.settings;
	evs_sink_buffer value = {0};
	bool		ok = true;

	for (int i = 0; ok && i < settings->nitems; i++)
	{
		const evs_sink_setting *setting = &settings->items[i];

		if (strncmp(setting->name, "attributes.", 11) != 0)
			continue;
		value.length = 0;
		evs_http_fill(&value, setting->value, message);
		evs_sink_add(&value, "", 0);
		ok = value.failed ? evs_http_no_memory(adding->request) :
			add_attribute(adding, setting->name + 11, evs_http_is_number_place(setting->value) ? "Number" : "String",
						  value.data);
	}
	evs_sink_buffer_free(&value);
	return ok;
}

/* A header of the application that a setting names, too, would be there twice. */
static bool
is_configured(const EvsHttpRequest *request, const char *name)
{
	const evs_sink_settings *settings = request->sink->config.settings;

	for (int i = 0; i < settings->nitems; i++)
		if (strncmp(settings->items[i].name, "attributes.", 11) == 0 &&
			strcmp(settings->items[i].name + 11, name) == 0)
			return true;
	return false;
}

int64_t
evs_aws_add_attributes(EvsHttpRequest *request, const evs_sink_message *message, const char *prefix,
					   EvsAwsAddAttribute add)
{
	Adding		adding = {request, prefix, add};

	if (!add_configured(&adding, message))
		return -1;
	for (int i = 0; i < message->nheaders; i++)
	{
		const evs_sink_pair *header = &message->headers[i];

		if (is_configured(request, header->name))
		{
			evs_http_result(request, EVS_SINK_PERMANENT,
							"a message cannot have the header \"%s\": the relay sets it", header->name);
			return -1;
		}
		if (!add_attribute(&adding, header->name, "String", header->value))
			return -1;
	}
	return adding.bytes;
}

/* ---- groups ---- */

static bool
is_group(const char *group)
{
	if (strlen(group) > GROUP_MAX_LENGTH)
		return false;
	for (; *group != '\0'; group++)
		if ((unsigned char) *group <= ' ' || (unsigned char) *group >= 0x7F)
			return false;
	return true;
}

void
evs_aws_hash(evs_sink_buffer *value)
{
	unsigned char digest[EVP_MAX_MD_SIZE];

	if (value->failed || EVP_Digest(value->data, value->length, digest, NULL, EVP_sha256(), NULL) != 1)
	{
		value->failed = true;
		return;
	}
	value->length = 0;
	evs_http_add_hex(value, digest, 32);
}

void
evs_aws_group(const EvsAws *aws, const evs_sink_message *message, evs_sink_buffer *group)
{
	evs_http_fill(group, aws->group_id != NULL ? aws->group_id : "{key}", message);
	/* Without a key there is no order: a group of its own. */
	if (group->length == 0)
		evs_sink_add_string(group, message->id);
	if (!group->failed && !is_group(group->data))
		evs_aws_hash(group);
}

bool
evs_aws_check_payload(EvsHttpRequest *request, const evs_sink_message *message)
{
	if (message->length == 0)
		evs_http_result(request, EVS_SINK_PERMANENT, "the message has no payload, and AWS takes no empty one");
	else if (!evs_http_is_xml_text(message->data, message->length))
		evs_http_result(request, EVS_SINK_PERMANENT,
						"the payload is not valid UTF-8, or has a character that AWS does not take");
	else
		return true;
	return false;
}
