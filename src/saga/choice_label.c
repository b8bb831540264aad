/*
 * choice_label.c
 *	  Rules of Choice states in short, as labels of a diagram.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"

#include "saga/compile.h"
#include "compat.h"

/* Longer ones are cut: the whole rule is in the definition. */
#define LABEL_MAX	60

static void append_rule(StringInfo buf, const EvsPart *rule, bool is_nested);

static void
append_string(StringInfo buf, const EvsPart *field)
{
	if (field->value.type == jbvString)
		appendBinaryStringInfo(buf, field->value.val.string.val, field->value.val.string.len);
}

/* And, Or: rules in an array. */
static void
append_list(StringInfo buf, const EvsPart *list, const char *word)
{
	EvsPart		element;
	EvsEach		each;

	if (list->value.type != jbvBinary)
		return;
	evs_part_begin(&each, list);
	while (evs_part_next(&each, list, &element))
	{
		if (element.index > 0)
			appendStringInfo(buf, " %s ", word);
		append_rule(buf, &element, true);
	}
}

/* {"Variable": "$.total", "NumericGreaterThan": 100} is "$.total NumericGreaterThan 100". */
static void
append_test(StringInfo buf, const EvsPart *rule)
{
	EvsPart		member;
	EvsEach		each;

	if (evs_part_get(rule, "Variable", &member))
		append_string(buf, &member);
	evs_part_begin(&each, rule);
	while (evs_part_next(&each, rule, &member))
	{
		Jsonb	   *json;

		if (strcmp(member.key, "Variable") == 0 || strcmp(member.key, "Next") == 0 ||
			strcmp(member.key, "Assign") == 0 || strcmp(member.key, "Comment") == 0)
			continue;
		json = evs_part_json(&member);
		appendStringInfo(buf, " %s %s", member.key, JsonbToCString(NULL, &json->root, VARSIZE(json)));
	}
}

static void
append_rule(StringInfo buf, const EvsPart *rule, bool is_nested)
{
	EvsPart		rules;
	bool		is_and;

	check_stack_depth();
	if (!evs_part_is_object(rule) || buf->len > LABEL_MAX)
		return;
	is_and = evs_part_get(rule, "And", &rules);
	if (is_and || evs_part_get(rule, "Or", &rules))
	{
		appendStringInfoString(buf, is_nested ? "(" : "");
		append_list(buf, &rules, is_and ? "and" : "or");
		appendStringInfoString(buf, is_nested ? ")" : "");
	}
	else if (evs_part_get(rule, "Not", &rules))
	{
		appendStringInfoString(buf, "not ");
		append_rule(buf, &rules, true);
	}
	else
		append_test(buf, rule);
}

char *
evs_rule_label(const EvsPart *rule)
{
	StringInfoData buf;
	EvsPart		comment;

	initStringInfo(&buf);
	if (evs_part_get(rule, "Comment", &comment) && comment.value.type == jbvString)
		append_string(&buf, &comment);
	else
		append_rule(&buf, rule, false);
	return buf.data;
}
