import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { Member } from '../src/lib/api/cluster';
import { arcsOf, outline, place, zonesOf } from '../src/lib/cluster/ring';
import { enPages } from '../src/lib/i18n/en-pages';
import { placeholders } from '../src/lib/i18n/fill';

const member = (name: string, zone: string, ringShare: number): Member => ({ name, zone, ringShare }) as Member;
const three = [member('b3', '', 0.3), member('b1', 'b', 0.5), member('b2', 'a', 0.2), member('gone', 'a', 0)];

describe('the ring', () => {
  test('has an arc for each broker on it, those of a zone together', () => {
    const arcs = arcsOf(three);
    expect(arcs.map(({ member, zone }) => [member.name, zone])).toEqual([['b2', 0], ['b1', 1], ['b3', 2]]);
    expect(arcs[0]?.from).toBe(0);
    expect(arcs[1]?.from).toBeCloseTo(0.2);
    expect(arcs[2]?.to).toBeCloseTo(1);
    expect(zonesOf(three)).toEqual(['a', 'b', '']);
    expect(arcsOf([])).toEqual([]);
  });

  test('is whole, whatever the shares add up to', () => {
    const arcs = arcsOf([member('a', '', 0.4), member('b', '', 0.4)]);
    expect(arcs[1]?.to).toBeCloseTo(1);
  });

  test('begins at the top and goes clockwise', () => {
    expect(place(0, 10)).toEqual([0, -10]);
    expect(place(0.25, 10)[0]).toBeCloseTo(10);
    // More than half of a circle is drawn in two pieces, the whole one too.
    expect(outline(0, 0.4, 5, 10).match(/M/g)).toHaveLength(1);
    expect(outline(0, 1, 5, 10).match(/M/g)?.length).toBeGreaterThan(1);
  });
});

describe('findings', () => {
  const source = (path: string): string => readFileSync(join(import.meta.dirname, '../..', path), 'utf8');

  test('have words for every code of the server, with values that it gives', () => {
    const code = source('crates/broker/src/cluster/status/findings.rs');
    const codes = [...code.matchAll(/Code::\w+ => "(\w+)"/g)].map((match) => match[1] as string);
    expect(codes.length).toBeGreaterThan(15);
    const texts = enPages as Record<string, string>;
    for (const name of codes) {
      const said = texts[`cluster.found.${name}`];
      expect(said, name).toBeDefined();
      for (const value of placeholders(said as string)) expect(code, `${name}: ${value}`).toContain(`"${value}"`);
      // What to do about a store depends on the kind of error.
      if (name !== 'store_errors') expect(texts[`cluster.fix.${name}`], name).toBeDefined();
    }
  });

  test('are worded as on the command line', () => {
    const words = source('crates/watchfire/src/cluster/words.rs');
    for (const [key, text] of Object.entries(enPages)) {
      if (/^cluster\.(found|fix|store)\./.test(key)) expect(words, key).toContain(`"${text}"`);
    }
  });

  test('know what to do for every kind of error of a store', () => {
    const kinds = /const KINDS[^[]*\[[^\]]*\] = \[([^\]]*)\]/.exec(source('crates/objects/src/error.rs'))?.[1] ?? '';
    const names = [...kinds.matchAll(/"(\w+)"/g)].map((match) => match[1] as string);
    expect(names).toContain('full');
    for (const kind of names) if (kind !== 'not_found') expect(enPages).toHaveProperty([`cluster.store.${kind}`]);
  });
});
