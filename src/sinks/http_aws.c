/*
 * http_aws.c
 *	  What the profiles of AWS share: settings, endpoint, credentials.
 *
 * Credentials are secrets, which are read for each request: those of a role are
 * good for hours only, and whoever renews them replaces the secret.
 */
#include <ctype.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "http_aws.h"
#include "http_cloud.h"
#include "http_sigv4.h"

/* ---- region and endpoint ---- */

static bool
is_region_char(char c)
{
	return islower((unsigned char) c) || isdigit((unsigned char) c) || c == '-';
}

/* eu-central-1, us-gov-west-1: words, at least three, and the last is a number. */
static bool
is_region(const char *name, size_t length)
{
	int			words = 1;
	const char *last = name;

	for (size_t i = 0; i < length; i++)
	{
		if (!is_region_char(name[i]))
			return false;
		if (name[i] != '-')
			continue;
		words++;
		last = name + i + 1;
	}
	return words >= 3 && length > 3 && islower((unsigned char) name[0]) && islower((unsigned char) name[1]) &&
		name[2] == '-' && last < name + length && strspn(last, "0123456789") >= (size_t) (name + length - last);
}

/* The region in a host of AWS, or in an ARN; NULL: none. */
static char *
find_region(const char *place)
{
	const char *end;
	const char *aws;

	if (strncmp(place, "arn:", 4) != 0)
	{
		const char *host = strstr(place, "://");

		place = host != NULL ? host + 3 : place;
		end = place + strcspn(place, ":/?#");
		aws = strstr(place, ".amazonaws.com");
		if (aws == NULL || aws > end)
			return NULL;
	}
	else
		end = place + strlen(place);
	while (place < end)
	{
		size_t		n = strcspn(place, ".:/?#");

		if (is_region(place, n))
			return strndup(place, n);
		place += n + 1;
	}
	return NULL;
}

static char *
concatenate(const char *a, const char *b, const char *c, const char *d, const char *e)
{
	evs_sink_buffer buffer = {0};

	evs_sink_printf(&buffer, "%s%s%s%s%s", a, b, c, d, e);
	if (!buffer.failed)
		return buffer.data;
	evs_sink_buffer_free(&buffer);
	return NULL;
}

/* With a path, which is what is signed. */
static char *
complete_endpoint(const char *endpoint)
{
	const char *host = strstr(endpoint, "://");

	host = host != NULL ? host + 3 : endpoint;
	return concatenate(endpoint, strchr(host, '/') != NULL ? "" : "/", "", "", "");
}

/* Of the URL that libcurl sends; the port, too, unless it is the scheme's. */
static char *
host_header(const EvsHttpPlace *to)
{
	bool		is_v6 = strchr(to->host, ':') != NULL;
	evs_sink_buffer buffer = {0};

	evs_sink_printf(&buffer, is_v6 ? "[%s]" : "%s", to->host);
	if (to->port != (to->is_tls ? 443 : 80))
		evs_sink_printf(&buffer, ":%d", to->port);
	if (!buffer.failed)
		return buffer.data;
	evs_sink_buffer_free(&buffer);
	return NULL;
}

static bool
read_region(EvsHttpReader *reader, const char *place, const char *endpoint)
{
	EvsAws	   *aws = reader->config->own;
	const char *region;

	if (!evs_http_read_string(reader, "region", NULL, &region))
		return false;
	if (region != NULL)
	{
		/* It stands in a host name and in a header. */
		if (region[0] == '\0' || strspn(region, "abcdefghijklmnopqrstuvwxyz0123456789-") != strlen(region))
			return evs_http_fail(reader, "setting \"region\" must be the name of a region, such as eu-central-1");
		aws->region = strdup(region);
		return aws->region != NULL || evs_http_fail(reader, "out of memory");
	}
	if (place != NULL)
		aws->region = find_region(place);
	if (aws->region == NULL && endpoint != NULL)
		aws->region = find_region(endpoint);
	return aws->region != NULL || evs_http_fail(reader, "setting \"region\" is missing");
}

/* The name is that of the setting that it comes from. */
static bool
make_endpoint(EvsHttpReader *reader, const char *name, const char *endpoint)
{
	EvsAws	   *aws = reader->config->own;
	const char *domain = strncmp(aws->region, "cn-", 3) == 0 ? ".amazonaws.com.cn/" : ".amazonaws.com/";

	if (endpoint != NULL)
		aws->endpoint = complete_endpoint(endpoint);
	else
		aws->endpoint = concatenate("https://", aws->service, ".", aws->region, domain);
	if (aws->endpoint == NULL)
		return evs_http_fail(reader, "out of memory");
	if (strpbrk(aws->endpoint, "{}?#") != NULL)
		return evs_http_fail(reader, "setting \"%s\" must not have a query, a fragment or places to fill in", name);
	if (!evs_http_read_url(reader, name, aws->endpoint) ||
		!evs_cloud_require_tls(reader, name, &reader->config->to))
		return false;
	aws->host = host_header(&reader->config->to);
	return aws->host != NULL || evs_http_fail(reader, "out of memory");
}

bool
evs_aws_configure_endpoint(EvsHttpReader *reader, const char *place, const char *otherwise)
{
	const EvsAws *aws = reader->config->own;
	const char *endpoint;

	if (!evs_http_read_string(reader, "endpoint", NULL, &endpoint))
		return false;
	if (!read_region(reader, place, endpoint))
		return false;
	return endpoint != NULL || otherwise == NULL ? make_endpoint(reader, "endpoint", endpoint) :
		make_endpoint(reader, aws->destination_name, otherwise);
}

/* ---- settings ---- */

static bool
read_credentials(EvsHttpReader *reader)
{
	EvsAws	   *aws = reader->config->own;
	bool		has_parts;

	if (!evs_http_read_secret(reader, "auth.credentials", &aws->credentials) ||
		!evs_http_read_secret(reader, "auth.access_key_id", &aws->access_key_id) ||
		!evs_http_read_secret(reader, "auth.secret_access_key", &aws->secret_access_key) ||
		!evs_http_read_secret(reader, "auth.session_token", &aws->session_token))
		return false;
	has_parts = aws->access_key_id != NULL || aws->secret_access_key != NULL || aws->session_token != NULL;
	if (aws->credentials != NULL && has_parts)
		return evs_http_fail(reader, "setting \"auth.credentials\" and the other settings of \"auth\" exclude each other");
	if (aws->credentials == NULL && !has_parts)
		return evs_http_fail(reader, "setting \"auth.credentials\", or \"auth.access_key_id\" and \"auth.secret_access_key\", is missing");
	if (aws->credentials == NULL && (aws->access_key_id == NULL || aws->secret_access_key == NULL))
		return evs_http_fail(reader, "settings \"auth.access_key_id\" and \"auth.secret_access_key\" need each other");
	return true;
}

EvsAws *
evs_aws_configure(EvsHttpReader *reader, const char *service, const char *destination, const char *otherwise)
{
	EvsAws	   *aws = reader->config->own = calloc(1, sizeof(EvsAws));

	if (aws == NULL)
	{
		evs_http_fail(reader, "out of memory");
		return NULL;
	}
	aws->service = service;
	aws->destination_name = destination;
	aws->content_type = "application/x-amz-json-1.1";
	aws->limits.entries = 10;
	aws->limits.bytes = aws->limits.entry_bytes = 262144;
	if (!evs_http_read_template(reader, destination, otherwise, &aws->destination) || !read_credentials(reader))
		return NULL;
	if (aws->destination == NULL || aws->destination[0] == '\0')
	{
		evs_http_fail(reader, "setting \"%s\" is missing", destination);
		return NULL;
	}
	aws->has_place = evs_http_has_place(aws->destination);
	return aws;
}

bool
evs_aws_read_limits(EvsHttpReader *reader, int64_t max, const char *entry_name)
{
	EvsHttpLimits *limits = &((EvsAws *) reader->config->own)->limits;

	if (!evs_http_read_int(reader, "max_bytes", limits->bytes, 1024, max, &limits->bytes))
		return false;
	if (entry_name != NULL)
		return evs_http_read_int(reader, entry_name, limits->entry_bytes, 1024, max, &limits->entry_bytes);
	limits->entry_bytes = limits->bytes;
	return true;
}

void
evs_aws_release(EvsHttpConfig *config)
{
	EvsAws	   *aws = config->own;

	free(aws->endpoint);
	free(aws->host);
	free(aws->region);
	free(aws);
	config->own = NULL;
}

/* ---- where messages go ---- */

/*
 * What the message says becomes a part of a name: nothing that would make it one
 * of another kind, or of another account.
 */
static bool
is_name(const char *value)
{
	for (; *value != '\0'; value++)
		if (!isalnum((unsigned char) *value) && strchr("-_.", *value) == NULL)
			return false;
	return true;
}

static bool
check_places(EvsHttpRequest *request, const evs_sink_message *message)
{
	const char *values[] = {message->topic, message->type, message->source, message->stream, message->key};
	static const char *const names[] = {"topic", "type", "source", "stream", "key"};

	for (int i = 0; i < 5; i++)
	{
		char		place[16] = "{";

		strcat(strcat(place, names[i]), "}");
		if (strstr(evs_aws(request)->destination, place) == NULL)
			continue;
		if (values[i] != NULL && values[i][0] != '\0' && is_name(values[i]))
			continue;
		evs_http_result(request, EVS_SINK_PERMANENT,
						"the message's %s \"%s\" cannot be a part of a name in AWS: letters, digits, and . - _",
						names[i], values[i] != NULL ? values[i] : "");
		return false;
	}
	return true;
}

bool
evs_aws_destination(EvsHttpRequest *request, const evs_sink_message *message, evs_sink_buffer *buffer)
{
	const EvsAws *aws = evs_aws(request);

	if (aws->has_place && !check_places(request, message))
		return false;
	evs_http_fill(buffer, aws->destination, message);
	return !buffer->failed || evs_http_no_memory(request);
}

bool
evs_aws_end_body(EvsHttpRequest *request,
				 void (*add) (evs_sink_buffer *body, const evs_sink_buffer *destination))
{
	evs_sink_buffer *body = &request->body;
	evs_sink_buffer destination = {0};
	bool		ok = evs_aws_destination(request, request->message, &destination);

	if (ok)
	{
		add(body, &destination);
		request->data = body->data;
		request->length = body->length;
		ok = !body->failed || evs_http_no_memory(request);
	}
	evs_sink_buffer_free(&destination);
	return ok;
}

static bool
ends_with_fifo(const char *name)
{
	size_t		length = strlen(name);

	return length > 5 && strcmp(name + length - 5, ".fifo") == 0;
}

bool
evs_aws_is_fifo(const EvsHttpRequest *request, const evs_sink_message *message)
{
	const EvsAws *aws = evs_aws(request);
	evs_sink_buffer name = {0};
	bool		is_fifo;

	if (!aws->has_place)
		return ends_with_fifo(aws->destination);
	evs_http_fill(&name, aws->destination, message);
	is_fifo = !name.failed && ends_with_fifo(name.data);
	evs_sink_buffer_free(&name);
	return is_fifo;
}

bool
evs_aws_goes_with(const EvsHttpRequest *request, const evs_sink_message *message)
{
	const EvsAws *aws = evs_aws(request);
	evs_sink_buffer first = {0};
	evs_sink_buffer other = {0};
	bool		is_same;

	if (!aws->has_place)
		return true;
	evs_http_fill(&first, aws->destination, request->message);
	evs_http_fill(&other, aws->destination, message);
	is_same = !first.failed && !other.failed && strcmp(first.data, other.data) == 0;
	evs_sink_buffer_free(&first);
	evs_sink_buffer_free(&other);
	return is_same;
}

void
evs_aws_add_member(evs_sink_buffer *body, const char *name, const char *value)
{
	evs_http_add_json(body, name, strlen(name));
	evs_sink_add(body, ":", 1);
	evs_http_add_json(body, value, strlen(value));
}

bool
evs_aws_add_headers(EvsHttpRequest *request)
{
	const EvsAws *aws = evs_aws(request);

	return evs_http_omit_header(request, "Expect") &&
		evs_http_add_header(request, "Content-Type", aws->content_type) &&
		(aws->target == NULL || evs_http_add_header(request, "X-Amz-Target", aws->target));
}

/* ---- signing ---- */

typedef struct Credentials
{
	char		access_key_id[EVS_HTTP_SECRET_MAX];
	char		secret_access_key[EVS_HTTP_SECRET_MAX];
	char		session_token[EVS_HTTP_SECRET_MAX];
} Credentials;

static void
take_credential(void *arg, const evs_sink_json_value *value)
{
	Credentials *credentials = arg;

	if (strcmp(value->path, "access_key_id") == 0)
		(void) evs_sink_json_string(value, credentials->access_key_id, EVS_HTTP_SECRET_MAX);
	else if (strcmp(value->path, "secret_access_key") == 0)
		(void) evs_sink_json_string(value, credentials->secret_access_key, EVS_HTTP_SECRET_MAX);
	else if (strcmp(value->path, "session_token") == 0)
		(void) evs_sink_json_string(value, credentials->session_token, EVS_HTTP_SECRET_MAX);
}

/* One secret with a JSON object. */
static bool
get_document(EvsHttpRequest *request, Credentials *credentials)
{
	const char *name = evs_aws(request)->credentials;
	char		document[EVS_HTTP_SECRET_MAX];
	int			length = evs_http_get_secret(request, name, document);
	bool		ok;

	if (length < 0)
		return false;
	ok = evs_sink_json_scan(document, length, take_credential, credentials) &&
		credentials->access_key_id[0] != '\0' && credentials->secret_access_key[0] != '\0';
	OPENSSL_cleanse(document, sizeof(document));
	if (!ok)
		evs_http_result(request, EVS_SINK_FATAL,
						"the secret \"%s\" is not a JSON object with access_key_id and secret_access_key", name);
	return ok;
}

static bool
get_credentials(EvsHttpRequest *request, Credentials *credentials)
{
	const EvsAws *aws = evs_aws(request);

	if (aws->credentials != NULL)
	{
		if (!get_document(request, credentials))
			return false;
	}
	else if (evs_http_get_secret(request, aws->access_key_id, credentials->access_key_id) < 0 ||
			 evs_http_get_secret(request, aws->secret_access_key, credentials->secret_access_key) < 0 ||
			 (aws->session_token != NULL &&
			  evs_http_get_secret(request, aws->session_token, credentials->session_token) < 0))
		return false;
	if (!evs_http_is_header_value(credentials->access_key_id) ||
		!evs_http_is_header_value(credentials->session_token))
	{
		evs_http_result(request, EVS_SINK_FATAL, "the access key id or the session token has a control character");
		return false;
	}
	evs_http_remember_secret(request, credentials->session_token);
	evs_http_remember_secret(request, credentials->secret_access_key);
	return true;
}

static bool
add_signature(EvsHttpRequest *request, const Credentials *credentials)
{
	const EvsAws *aws = evs_aws(request);
	evs_sink_pair headers[] = {
		{"host", aws->host}, {"content-type", aws->content_type}, {"x-amz-target", aws->target}
	};
	EvsSigv4	what = {
		.region = aws->region, .service = aws->service,
		.access_key_id = credentials->access_key_id,
		.secret_access_key = credentials->secret_access_key,
		.session_token = credentials->session_token,
		.method = "POST", .path = strchr(strstr(aws->endpoint, "://") + 3, '/'),
		.headers = headers, .nheaders = aws->target != NULL ? 3 : 2,
		.data = request->data, .length = request->length, .now = time(NULL)
	};
	evs_sink_buffer lines = {0};
	bool		ok;

	if (evs_http_sigv4(&what, &lines))
		ok = evs_http_add_header_lines(request, lines.data);
	else
		ok = evs_http_no_memory(request);
	evs_http_clear(&lines);
	evs_sink_buffer_free(&lines);
	return ok;
}

bool
evs_aws_sign(EvsHttpRequest *request)
{
	Credentials credentials = {{0}};
	bool		ok = get_credentials(request, &credentials) && add_signature(request, &credentials);

	OPENSSL_cleanse(&credentials, sizeof(credentials));
	return ok;
}
