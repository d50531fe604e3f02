import { describe, expect, test } from 'vitest';
import { piecesOf, withoutAnsi } from '../src/lib/logs/ansi';
import { FieldCounter, fieldsOf } from '../src/lib/logs/fields';
import { instanceOf } from '../src/lib/logs/host';
import { prettyPieces, prettyText } from '../src/lib/logs/json';
import { levelOf } from '../src/lib/logs/level';
import { Lines, linesOf, withoutKnown, type Line } from '../src/lib/logs/line';
import { countable, readLogQuery, unquote, withCondition, withMatcher, withParser, withStage, writeLogQuery, writeWhole } from '../src/lib/logs/logql';
import { finderOf, markedPieces } from '../src/lib/logs/marks';
import { RowOffsets } from '../src/lib/logs/offsets';
import { fullTime, utcTime } from '../src/lib/logs/time';
import { logViewParams, parseLogView, savedParams } from '../src/lib/logs/view';
import { onOneRow, visible } from '../src/lib/logs/visible';
import { edgesOf, planOf, volumeOf, wholeBuckets } from '../src/lib/logs/volume';
import { errorPosition, withoutPosition } from '../src/lib/api/client';

const line = (ns: string, text: string, stream: Record<string, string> = { app: 'a' }): Line => (linesOf([{ stream, values: [[ns, text]] }], 'forward') as [Line])[0];

describe('the outline of a query', () => {
  test.each([
    ['{app="web"}'],
    ['{app="web", env!~"dev|test"} |= "error" != "debug"'],
    ['{} |= `a "quoted" \\ text` or "b"'],
    ['{app="web"} | json | status >= 500 | detected_level =~ "error|warn"'],
    ['{app="web"} | logfmt --strict a="b" | (x="1" or y>2s) | line_format "{{.a}} | {{.b}}" | drop x, y="z"'],
    ['{app="web"} | pattern `<ip> - <_>` |> "<_> failed" !> "x"'],
  ])('%s is written as it was read', (text) => {
    const read = readLogQuery(text);
    expect(read).not.toBeNull();
    const again = writeLogQuery(read as NonNullable<typeof read>);
    expect(readLogQuery(again)).toMatchObject({ matchers: read?.matchers, stages: read?.stages });
    expect(writeLogQuery(readLogQuery(again) as NonNullable<typeof read>)).toBe(again);
  });

  test.each([['rate({a="b"}[5m])'], ['{a="b"'], ['{a="b} |= "x'], ['{a=b}'], ['']])('%s has none', (text) => {
    expect(readLogQuery(text)).toBeNull();
  });

  test('a comparison behind a field is none of lines', () => {
    const kinds = (text: string) => readLogQuery(text)?.stages.map(({ kind }) => kind);
    expect(kinds('{a="b"} | level != "x"')).toEqual(['label']);
    expect(kinds('{a="b"} | json != "x"')).toEqual(['parser', 'line']);
    expect(kinds('{a="b"} | json | level !~ "x" !~ "y"')).toEqual(['parser', 'label', 'line']);
    expect(kinds('{a="b"} # | comment\n | json')).toEqual(['parser']);
  });

  test('conditions come where they belong', () => {
    expect(withMatcher('{a="b"} |= "x"', { label: 'c', op: '!=', value: 'd"' })).toBe('{a="b", c!=`d"`} |= "x"');
    expect(withMatcher('{a="b"}', { label: 'a', op: '=', value: 'c' })).toBe('{a="c"}');
    expect(withMatcher('{a="b"}', { label: 'a', op: '!=', value: 'c' })).toBe('{a="b", a!="c"}');
    expect(withMatcher('{a=~".+"}', { label: 'a', op: '=', value: 'c' })).toBe('{a="c"}');
    expect(withMatcher('{a="b"}', { label: 'a', op: '!=', value: 'b' })).toBe('{a!="b", a=~".+"}');
    expect(withMatcher('{a="b", c="d"}', { label: 'a', op: '!=', value: 'b' })).toBe('{a!="b", c="d"}');
    expect(withMatcher('{}', { label: 'a', op: '=', value: 'c' })).toBe('{a="c"}');
    expect(withCondition('{a="b"} | json', 's', '=', '5')).toBe('{a="b"} | json | s = "5"');
    expect(withCondition('{a="b"} | s = "5"', 's', '!=', '5')).toBe('{a="b"} | s != "5"');
    expect(withParser('{a="b"} |= "x"', 'json')).toBe('{a="b"} |= "x" | json');
    expect(withParser('{a="b"} | json', 'json')).toBe('{a="b"} | json');
    expect(withStage('{a="b"} # note', { kind: 'line', op: '|=', texts: ['x'] })).toBe('{a="b"} # note\n|= "x"');
  });

  test('what is not whole yet is left out', () => {
    const empty = { kind: 'line', op: '|=', texts: [''] } as const;
    expect(writeWhole({ matchers: [{ label: '', op: '=', value: '' }], stages: [{ ...empty, texts: [''] }] })).toBe('');
    expect(writeWhole({ matchers: [{ label: 'a', op: '=', value: 'b' }, { label: 'c', op: '=', value: '' }], stages: [{ ...empty, texts: ['x'] }] })).toBe('{a="b"} |= "x"');
    expect(writeWhole({ matchers: [], stages: [{ ...empty, texts: ['x'] }] })).toBe('{service_name=~".+"} |= "x"');
  });

  test('what may fail is counted without its errors', () => {
    const of = (text: string) => countable(text, readLogQuery(text) as NonNullable<ReturnType<typeof readLogQuery>>);
    expect(of('{a="b"} |= "x"')).toBe('{a="b"} |= "x"');
    expect(of('{a="b"} | json')).toContain('| drop __error__, __error_details__');
  });

  test('quotations stand for what they say', () => {
    expect(unquote('"a\\n\\"\\u00e9\\x41\\\\"')).toBe('a\n"éA\\');
    expect(unquote('`a\\n`')).toBe('a\\n');
  });

  test('Loki names the place of an error, too', () => {
    const message = 'parse error at line 2, col 7: syntax error: unexpected }';
    expect(errorPosition(message)).toEqual({ line: 2, column: 7 });
    expect(withoutPosition(message)).toBe('syntax error: unexpected }');
    expect(errorPosition('parse error at line 0, col 7: x')).toBeNull();
  });
});

describe('lines', () => {
  test('of several streams stand in the order of time', () => {
    const values = (list: [string, string][]) => list.map(([ns, text]): [string, string] => [ns, text]);
    const found = linesOf(
      [
        { stream: { app: 'a' }, values: values([['30', 'c'], ['10', 'a2'], ['10', 'a1']]) },
        { stream: { app: 'b' }, values: values([['20', 'b'], ['9', 'z']]) },
      ],
      'backward',
    );
    expect(found.map(({ text }) => text)).toEqual(['z', 'a1', 'a2', 'b', 'c']);
  });

  test('that are known do not come again, equal ones are counted', () => {
    const known = [line('10', 'x'), line('10', 'y')];
    const found = [line('9', 'w'), line('10', 'x'), line('10', 'x'), line('10', 'y')];
    expect(withoutKnown(found, known, '10').map(({ text }) => text)).toEqual(['w', 'x']);
  });

  test('keep their places when others come before, behind and between', () => {
    const lines = new Lines();
    lines.set([line('10', 'a'), line('20', 'b')]);
    lines.addOlder([line('1', 'o'), line('2', 'p')]);
    lines.addNewer([line('30', 'c')], 100);
    expect(lines.held.map((one) => lines.indexOf(one))).toEqual([0, 1, 2, 3, 4]);
    const [c] = lines.held.slice(-1);
    lines.addNewer([line('25', 'late'), line('40', 'd')], 100);
    expect(lines.held.map(({ text }) => text)).toEqual(['o', 'p', 'a', 'b', 'late', 'c', 'd']);
    expect(lines.held.map((one) => lines.indexOf(one))).toEqual([0, 1, 2, 3, 4, 5, 6]);
    expect(lines.indexOf(c as Line)).toBe(5);
    const [oldest] = lines.held;
    lines.addNewer([line('50', 'e')], 3);
    expect(lines.held.map(({ text }) => text)).toEqual(['c', 'd', 'e']);
    expect(lines.indexOf(oldest as Line)).toBe(-1);
    expect(lines.held.map((one) => lines.indexOf(one))).toEqual([0, 1, 2]);
  });

  test('have times to the nanosecond', () => {
    expect(utcTime('1700000000123456789')).toBe('2023-11-14T22:13:20.123456789Z');
    expect(fullTime('1700000000123456789')).toMatch(/\.123456789$/);
  });

  test('have the level that the server detected, else that of a label', () => {
    expect(levelOf({ level: 'debug' }, { detected_level: 'error' })).toBe('error');
    expect(levelOf({ level: 'WARNING' }, {})).toBe('warn');
    expect(levelOf({}, {})).toBe('unknown');
  });
});

describe('fields', () => {
  test('of JSON are named as the query would name them', () => {
    const found = fieldsOf(line('1', '{"app":"x","user":{"id":7,"a-b":null},"tags":[1],"ok":true}'));
    expect(found.map(({ name, value, source }) => `${source} ${name}=${value}`)).toEqual(['stream app=a', 'json app_extracted=x', 'json user_id=7', 'json ok=true']);
  });

  test('of JSON keep all digits of their numbers', () => {
    const found = fieldsOf(line('1', '{"id":12345678901234567890,"price":1.50,"n":7,"text":"1.50, 12345678901234567890","neg":-1e3}')).slice(1);
    expect(found.map(({ name, value }) => `${name}=${value}`)).toEqual(['id=12345678901234567890', 'price=1.50', 'n=7', 'text=1.50, 12345678901234567890', 'neg=-1e3']);
  });

  test('of logfmt are those of a line of pairs, not of prose', () => {
    expect(fieldsOf(line('1', 'level=info msg="two words" n=3')).slice(1).map(({ name, value }) => `${name}=${value}`)).toEqual(['level=info', 'msg=two words', 'n=3']);
    expect(fieldsOf(line('1', 'this is just a sentence with a=b and c=d in its midst'))).toHaveLength(1);
  });

  test('are counted by their values', () => {
    const counter = new FieldCounter();
    for (const user of ['a', 'b', 'a', 'a']) counter.add(line('1', `user=${user} n=1`));
    expect(counter.statistics().find(({ name }) => name === 'user')).toMatchObject({ count: 4, distinct: 2, top: [{ value: 'a', count: 3 }, { value: 'b', count: 1 }] });
  });
});

describe('what is shown of a line', () => {
  test('colours of terminals become looks', () => {
    expect(piecesOf('a\x1b[1;31mb\x1b[0mc\x1b[38;5;2md\x1b[Ke')).toEqual([
      { text: 'a', style: '' },
      { text: 'b', style: 'ansi-red ansi-bold' },
      { text: 'c', style: '' },
      { text: 'd', style: 'ansi-green' },
      { text: 'e', style: 'ansi-green' },
    ]);
    expect(withoutAnsi('\x1b[32mok\x1b[0m')).toBe('ok');
  });

  test('more colours than eight become the nearest of them', () => {
    const looks = (code: string) => piecesOf(`\x1b[${code}mx`)[0]?.style;
    expect(['38;5;208', '38;5;196', '38;5;27', '38;5;255', '38;5;234', '48;2;80;0;0', '38;2;0;200;190', '38;2;9;9;9', '38;5;9'].map(looks)).toEqual([
      'ansi-red', 'ansi-red', 'ansi-blue', 'ansi-white', 'ansi-black', 'ansi-on-red', 'ansi-cyan', 'ansi-black', 'ansi-red',
    ]);
    // What is no colour is none, and what follows it still counts.
    expect(['38;5;999', '38;5', '38;2;1', '38;5;999;1'].map(looks)).toEqual(['', '', '', 'ansi-bold']);
  });

  test('JSON is set over lines as it was written', () => {
    const text = '{"id":12345678901234567890,"a":{"b":[1,{}],"c":[]},"s":"\\u4f60\\n<b>","x":null}';
    expect(prettyText(text)).toBe('{\n  "id": 12345678901234567890,\n  "a": {\n    "b": [\n      1,\n      {}\n    ],\n    "c": []\n  },\n  "s": "你\\n<b>",\n  "x": null\n}');
    expect(prettyPieces('{"k":"v","n":1,"w":true}')?.filter(({ kind }) => kind !== '').map(({ kind, text: one }) => `${kind} ${one}`)).toEqual(['key "k"', 'string "v"', 'key "n"', 'number 1', 'key "w"', 'word true']);
    for (const none of ['[1]', 'a {"b":1}', '{"a":01}', '{', '']) expect([prettyPieces(none), prettyText(none)]).toEqual([null, none]);
  });

  test('what would hide is shown by its name, and lines on one row end in a sign', () => {
    expect(visible('a\tb\u0007\u202eevil\u200b\n')).toBe('a\tb<U+0007><U+202E>evil<U+200B>\n');
    expect(onOneRow('one\r\n\ttwo\nthree')).toBe('one ↵ \ttwo ↵ three');
  });

  test('what was looked for is marked, across colours', () => {
    const finder = finderOf(readLogQuery('{a="b"} |= "ab.c" |~ "(?i)XY+" != "no" |~ "[" |~ "z*"'));
    const shown = markedPieces('1ab.c2 ab\x1b[31mxc xyY3', finder).map(({ text, isMarked }) => (isMarked ? `[${text}]` : text)).join('');
    expect(shown).toBe('1[ab.c]2 abxc [xyY]3');
    const split = markedPieces('a\x1b[31mbb\x1b[0mc', finderOf(readLogQuery('{a="b"} |= "abb"')));
    expect(split.filter(({ isMarked }) => isMarked).map(({ text }) => text)).toEqual(['a', 'bb']);
  });

  test('rows lie where the ones before end', () => {
    const offsets = new RowOffsets(100_000, 20, [{ at: 5, height: 100 }, { at: 2, height: 40 }, { at: 200_000, height: 9 }]);
    expect([0, 2, 3, 5, 6].map((row) => offsets.top(row))).toEqual([0, 40, 80, 120, 220]);
    expect(offsets.total).toBe(2_000_100);
    expect([0, 39, 40, 79, 80, 219, 220, 1e9].map((y) => offsets.at(y))).toEqual([0, 1, 2, 2, 3, 5, 6, 99_999]);
    expect(new RowOffsets(0, 20).at(50)).toBe(0);
  });
});

describe('counts over time', () => {
  test('buckets that end with now are whole', () => {
    const buckets = wholeBuckets(3_600_000, 1_700_000_030_000, 60);
    expect(buckets.toMs % buckets.stepMs).toBe(0);
    expect(buckets.toMs).toBeGreaterThan(1_700_000_030_000);
    expect(planOf(buckets).single).toEqual([]);
  });

  test('those that times cut off are counted by themselves', () => {
    const buckets = { fromMs: 2500, toMs: 6200, stepMs: 1000 };
    expect(edgesOf(buckets)).toEqual([2500, 3000, 4000, 5000, 6000, 6200]);
    expect(planOf(buckets)).toEqual({ range: { firstEndMs: 4000, lastEndMs: 6000 }, single: [0, 4] });
    const volume = volumeOf(
      buckets,
      [
        { metric: { detected_level: 'error' }, values: [[4, '2'], [6, '1'], [7, '9'], [3, '9']] },
        { metric: {}, values: [[5, '3']] },
      ],
      [{ at: 0, level: 'error', count: 5 }, { at: 4, level: 'info', count: 7 }],
    );
    // A window that ends at 3 s is no whole bucket here, but lies in the first one.
    expect(volume.levels.map(({ level, counts }) => [level, ...counts])).toEqual([
      ['error', 14, 2, 0, 1, 0],
      ['info', 0, 0, 0, 0, 7],
      ['unknown', 0, 0, 3, 0, 0],
    ]);
  });
});

test('a host is found by its name, with its port or without', () => {
  const known = ['web-10:9100', 'web-1:9100', 'db-1'];
  expect(['web-1', 'web-1:8080', 'db-1', 'db-1:9100', 'web'].map((host) => instanceOf(host, known))).toEqual(['web-1:9100', 'web-1:9100', 'db-1', 'db-1', null]);
});

test('a saved view keeps all but its own name and a line', () => {
  expect(savedParams(parseLogView(new URLSearchParams('q=%7B%7D&range=15m&saved=mine&line=7&group=app')))).toBe('q=%7B%7D&range=15m&group=app');
});

test('the address holds the whole view', () => {
  for (const text of ['', 'range=15m', 'q=%7Ba%3D%22b%22%7D&from=1000&to=9000&tab=patterns', 'range=1h&order=oldest&live=1&wrap=1&pretty=1&fields=1&columns=a%2Cb', 'range=1h&tab=groups&group=app&line=1796000000000000000&saved=mine']) {
    const params = logViewParams(parseLogView(new URLSearchParams(text)));
    expect(logViewParams(parseLogView(params)).toString()).toBe(params.toString());
    for (const [name, value] of new URLSearchParams(text)) expect(params.get(name)).toBe(value);
  }
});
