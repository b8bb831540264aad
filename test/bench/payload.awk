# Events of a bank, about 200 bytes of JSON each.
#
# awk -v first=N -v count=N [-v form=array] -f payload.awk
#
# form=rows (default): a line an event, type and data, as COPY reads them.
# form=array: two lines, the array of the types and the array of the data.

function pick(list, i,    a, n) {
	n = split(list, a, "|")
	return a[i % n + 1]
}

function type(i) {
	return pick("AccountOpened|MoneyDeposited|MoneyWithdrawn|TransferStarted|TransferFinished|LimitChanged|AddressChanged|CardOrdered", i)
}

function data(i) {
	return sprintf("{\"account\": \"%08d\", \"amount\": %d.%02d, \"currency\": \"%s\", \"reference\": \"inv-%06d-%s\", " \
		"\"channel\": \"%s\", \"by\": {\"user\": \"u%05d\", \"role\": \"%s\"}, \"flags\": [%s], \"note\": \"%s\"}",
		i * 7919 % 99999999, i * 137 % 9000, i * 31 % 100, pick("EUR|USD|GBP|CHF", i),
		i * 104729 % 999999, pick("a7|k3|q9|z1|m5", i), pick("mobile|web|branch|api", int(i / 3)),
		i * 271 % 99999, pick("teller|owner|system", i), pick("1, 4|2||3, 5, 8", int(i / 2)),
		pick("monthly rent of the flat|order 4711, two parts|as agreed by telephone|no comment|second reminder", i))
}

function quoted(s) {
	gsub(/["\\]/, "\\\\&", s)
	return "\"" s "\""
}

BEGIN {
	for (i = first; i < first + count; i++) {
		if (form != "array")
			print type(i) "\t" data(i)
		types = types (types == "" ? "" : ",") quoted(type(i))
		all = all (all == "" ? "" : ",") quoted(data(i))
	}
	if (form == "array")
		print "{" types "}\n{" all "}"
}
