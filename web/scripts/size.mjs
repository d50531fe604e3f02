// Weighs the built console against its budget: what the first page loads, and each chunk that follows.

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';

const DIST = join(import.meta.dirname, '../dist');
const FIRST_LOAD_KB = 60;
const WHOLE_KB = 450;

const kilobytes = (path) => gzipSync(readFileSync(path), { level: 9 }).length / 1024;
const page = readFileSync(join(DIST, 'index.html'), 'utf8');
const assets = readdirSync(join(DIST, 'assets')).map((name) => ({
  name,
  first: page.includes(`/assets/${name}`),
  size: kilobytes(join(DIST, 'assets', name)),
}));

for (const { name, first, size } of assets) console.log(`${size.toFixed(1).padStart(7)} KB  ${first ? 'first' : 'later'}  ${name}`);
// The page names no dictionary, but loads one before it shows anything.
const dictionary = assets.filter(({ name }) => /^(en|zh)-[\w-]{8}\.js$/.test(name)).sort((a, b) => b.size - a.size)[0];
dictionary.first = true;
const sum = (list) => list.reduce((total, { size }) => total + size, 0);
const firstLoad = sum(assets.filter(({ first }) => first));
const whole = sum(assets);
console.log(`first load ${firstLoad.toFixed(1)} KB of ${FIRST_LOAD_KB}, whole ${whole.toFixed(1)} KB of ${WHOLE_KB} (gzip)`);
if (firstLoad > FIRST_LOAD_KB || whole > WHOLE_KB) {
  console.error('over budget: load more of it lazily');
  process.exit(1);
}
