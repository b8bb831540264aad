#!/usr/bin/env bash
#
# Make flights.csv.gz again from the npm package it comes from.
#
# Usage: make.sh [FILE]     (default: flights.csv.gz beside this script)
#
# Needs npm, node, gzip and sha256sum.  Both the file of the package and the
# result are compared with their known checksums, so a run either gives the
# same rows or fails.
set -euo pipefail

package=vega-datasets
version=3.2.1
member=package/data/flights-20k.json
member_sha256=52f0ddd892d4569284b845e17323abc9afb7d303ec8f63251634a20327a610bb
csv_sha256=9f5974af8133f84b41843c86f73e02eae19cfc2a7b52b93cd2bf275a428d5d9b

here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$here/flights.csv.gz}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

npm pack --silent --pack-destination "$work" "$package@$version" >/dev/null
tar -xzf "$work/$package-$version.tgz" -C "$work" "$member"
echo "$member_sha256  $work/$member" | sha256sum --check --quiet

# One line a flight, in the order of the source, numbered from 1.  Anything
# that is not of the expected form is an error, never a guess.
node - "$work/$member" >"$work/flights.csv" <<'EOF'
const flights = JSON.parse(require('fs').readFileSync(process.argv[2], 'utf8'));
const lines = ['id,departed,delay,distance,origin,destination'];

flights.forEach((flight, i) => {
  const time = /^(\d{4})\/(\d\d)\/(\d\d) (\d\d:\d\d)$/.exec(flight.date);
  const airports = [flight.origin, flight.destination];

  if (time === null || Object.keys(flight).length !== 5
      || !Number.isInteger(flight.delay) || !Number.isInteger(flight.distance)
      || !airports.every((airport) => /^[A-Z0-9]{3}$/.test(airport)))
    throw new Error(`flight ${i + 1} has an unexpected form: ${JSON.stringify(flight)}`);

  const departed = `${time[1]}-${time[2]}-${time[3]} ${time[4]}`;
  lines.push([i + 1, departed, flight.delay, flight.distance, ...airports].join(','));
});
process.stdout.write(lines.join('\n') + '\n');
EOF
echo "$csv_sha256  $work/flights.csv" | sha256sum --check --quiet

# -n: no name and no time in the header, so equal rows give equal bytes.
gzip -9n <"$work/flights.csv" >"$work/flights.csv.gz"
cp "$work/flights.csv.gz" "$out"
echo "$out: $(($(wc -l <"$work/flights.csv") - 1)) flights, $(wc -c <"$out") bytes"
