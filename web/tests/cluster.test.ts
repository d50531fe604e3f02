import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { Cluster, Member } from '../src/lib/api/cluster';
import { obstacle, tooFew, wayOut } from '../src/lib/cluster/leaving';
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

describe('to leave', () => {
  const broker = (name: string, more: Partial<Member> = {}): Member =>
    ({ id: name, name, liveness: 'alive', silentMs: 0, isDraining: false, hasLeft: false, part: 'voter', segments: { count: 0, bytes: 0 }, ...more }) as Member;
  const led = { leader: 'a' } as NonNullable<Cluster['consensus']>;
  const among = (members: Member[]) => ({ members, consensus: led });

  test('one that lives drains, one that is silent is taken out, one that drains is left alone', () => {
    expect(wayOut(broker('a'))).toBe('drain');
    expect(wayOut(broker('a', { liveness: 'unknown' }))).toBe('drain');
    expect(wayOut(broker('a', { isDraining: true }))).toBeNull();
    expect(wayOut(broker('a', { isDraining: true, liveness: 'silent' }))).toBe('remove');
    expect(wayOut(broker('a', { hasLeft: true, liveness: 'unknown' }))).toBe('remove');
  });

  test('something has to be left', () => {
    const [a, b, c] = [broker('a'), broker('b'), broker('c')];
    expect(obstacle(a, among([a, b, c]))).toBeNull();
    expect(obstacle(a, among([a]))).toBe('last');
    expect(obstacle(a, among([a, broker('b', { isDraining: true }), broker('c', { liveness: 'silent' })]))).toBe('last');
    expect(obstacle(a, { members: [a, b, c], consensus: { ...led, leader: null } })).toBe('noLeader');
    // Two voters are left, one of them gone: nothing could be agreed upon.
    const lost = broker('c', { liveness: 'silent' });
    expect(obstacle(a, among([a, b, lost]))).toBe('voters');
    expect(obstacle(broker('d', { part: 'learner' }), among([a, b, lost]))).toBeNull();
  });

  test('one that may come back is not taken out', () => {
    const rest = [broker('a'), broker('b')];
    const lost = (silentMs: number, count: number) => broker('c', { liveness: 'silent', silentMs, segments: { count, bytes: 0 } });
    expect(obstacle(lost(59_000, 0), among(rest))).toBe('recent');
    expect(obstacle(lost(61_000, 2), among(rest))).toBe('segments');
    expect(obstacle(lost(61_000, 0), among(rest))).toBeNull();
  });

  test('fewer than three are told to be few', () => {
    const four = ['a', 'b', 'c', 'd'].map((name) => broker(name));
    expect(tooFew(four[0] as Member, four)).toBeNull();
    expect(tooFew(four[0] as Member, four.slice(0, 3))).toBe(2);
  });
});
