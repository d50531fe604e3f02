import { describe, expect, test } from 'vitest';
import type { NotifiedAlert, NotifiedGroup, RouteNode, RuleAlert } from '../src/lib/api/alerting';
import { countNames, countStates, gravityOf, groupBy, groupsWith, isLink, merged, sharedLabels, type Alert } from '../src/lib/alerts/model';
import { groupYaml, ruleYaml, type RuleDraft } from '../src/lib/alerts/rule-text';
import { BLANK, daysOf, ending, faultsOf, intervalOf, isSpan, matcherText, recurrenceOf, seedOf } from '../src/lib/alerts/silence';
import { markOf } from '../src/lib/alerts/text-editor';
import { splitThreshold } from '../src/lib/alerts/threshold';
import { pathTo, placed } from '../src/lib/alerts/tree';

describe('threshold', () => {
  test.each([
    ['node_load1 > 4', 'node_load1', '>', 4],
    ['(rate(x[5m]) >= 0.5)', 'rate(x[5m])', '>=', 0.5],
    ['4 < node_load1', 'node_load1', '>', 4],
    ['x{a="b > 3"} == 0', 'x{a="b > 3"}', '==', 0],
    ['x < -1.5e3', 'x', '<', -1500],
    ['time() - x > 5 * 60', 'time() - x', '>', 300],
    ['x # a > 1\n > 2', 'x', '>', 2],
    ['sum by (a) (x > 3) != 1', 'sum by (a) (x > 3)', '!=', 1],
    ['(a) / (b) > 0.1', '(a) / (b)', '>', 0.1],
  ])('%s', (query, expr, op, value) => {
    expect(splitThreshold(query)).toEqual({ expr, op, value });
  });

  test.each(['up', 'a > b', 'a > 1 and b > 2', 'a > 1 or b', 'a > 1 unless b', 'a > bool 1', '1 > 2', 'a > 1 > 0', '', '((', 'a{b="', 'absent(up)', 'a =~ 1 > 0'])(
    'none in %s',
    (query) => {
      const found = splitThreshold(query);
      expect(found === null || found.expr !== '').toBe(true);
      if (query !== 'a =~ 1 > 0') expect(found).toBeNull();
    },
  );

  test('words that begin like operators are names', () => {
    expect(splitThreshold('order_total > 3')?.expr).toBe('order_total');
    expect(splitThreshold('android > 3')?.expr).toBe('android');
  });
});

const told = (name: string, more: Partial<NotifiedAlert['status']> = {}): NotifiedAlert => ({
  fingerprint: name.padEnd(16, '0'),
  labels: { alertname: name, severity: 'warning' },
  annotations: {},
  startsAt: '2026-01-01T00:00:00.000Z',
  endsAt: '2026-01-01T01:00:00.000Z',
  updatedAt: '2026-01-01T00:00:00.000Z',
  receivers: [],
  status: { state: 'active', silencedBy: [], inhibitedBy: [], mutedBy: [], ...more },
});
const group = (receiver: string, ...alerts: NotifiedAlert[]): NotifiedGroup => ({ labels: {}, receiver: { name: receiver }, alerts });
const ofRule = (name: string, state: RuleAlert['state'], value = '1e+00'): RuleAlert => ({
  labels: { alertname: name, severity: 'warning' },
  annotations: {},
  state,
  activeAt: '2026-01-01T00:00:05Z',
  value,
});

describe('alerts', () => {
  test('of rules and of the notifier are one list', () => {
    const { alerts } = merged([ofRule('a', 'firing', '2.5e+00'), ofRule('b', 'pending')], [group('x', told('a')), group('y', told('posted'))]);
    expect(alerts.map(({ name, state, value }) => [name, state, value])).toEqual([
      ['a', 'firing', 2.5],
      ['posted', 'firing', null],
      ['b', 'pending', 1],
    ]);
  });

  test('that got labels on the way are still those of their rules', () => {
    const sent = { ...told('a'), labels: { alertname: 'a', severity: 'warning', region: 'eu' } };
    const { alerts } = merged([ofRule('a', 'firing', '2.5e+00'), ofRule('b', 'firing')], [group('x', sent)]);
    expect(alerts.map(({ name, labels, value }) => [name, labels['region'], value])).toEqual([['a', 'eu', 2.5], ['b', undefined, 1]]);
  });

  test('are muted only where all their groups are', () => {
    const muted = { mutedBy: ['night'] };
    const { alerts } = merged([], [group('x', told('a', muted), told('b', muted)), group('y', told('a'))]);
    expect(alerts.map(({ name, state }) => [name, state])).toEqual([['a', 'firing'], ['b', 'muted']]);
  });

  test('a silence counts before what inhibits', () => {
    const { alerts } = merged([], [group('x', told('a', { silencedBy: ['s'], inhibitedBy: ['f'] }), told('b', { inhibitedBy: ['f'] }))]);
    expect(countStates(alerts)).toEqual({ firing: 0, pending: 0, silenced: 1, inhibited: 1, muted: 0 });
  });

  test('are counted by name, each once', () => {
    const alert = (fingerprint: string, alertname: string) => ({ fingerprint, labels: { alertname } }) as unknown as NotifiedAlert;
    const group = (...alerts: NotifiedAlert[]): NotifiedGroup => ({ labels: {}, receiver: { name: 'r' }, alerts });
    expect([...countNames([group(alert('1', 'A'), alert('2', 'A'), alert('3', 'B')), group(alert('1', 'A'))])]).toEqual([['A', 2], ['B', 1]]);
  });

  test('of a group have labels in common', () => {
    const group = (...all: Record<string, string>[]) => ({ key: '', labels: { job: 'node' }, receiver: '', alerts: all.map((labels) => ({ labels }) as unknown as Alert) });
    expect(sharedLabels(group({ alertname: 'A', job: 'node', zone: 'eu', team: 'db' }, { alertname: 'A', job: 'node', zone: 'eu' }))).toEqual({ zone: 'eu' });
    expect(sharedLabels(group({ alertname: 'A', zone: 'eu' }))).toEqual({});
  });

  test('stand without the notifier', () => {
    expect(merged([ofRule('a', 'firing'), ofRule('b', 'inactive')], null).alerts.map(({ state }) => state)).toEqual(['firing']);
  });

  test('groups come in the order of their gravest alerts', () => {
    const critical = { ...told('c'), labels: { alertname: 'c', severity: 'critical' } };
    const { alerts, groups } = merged([], [group('x', told('a')), group('y', critical)]);
    expect(groupBy(alerts, 'alertname').map(({ key }) => key)).toEqual(['c', 'a']);
    expect(groupBy(alerts, '')).toHaveLength(1);
    expect(groupsWith(groups, new Set(alerts)).map(({ receiver }) => receiver)).toEqual(['y', 'x']);
    expect(groupsWith(groups, new Set(alerts.slice(0, 1))).map(({ receiver }) => receiver)).toEqual(['x']);
  });

  test('unknown severities lie between warnings and informations', () => {
    expect(gravityOf('warning')).toBeLessThan(gravityOf('odd'));
    expect(gravityOf('odd')).toBeLessThan(gravityOf('info'));
  });

  test.each([
    ['https://a/b', true],
    ['HTTP://a', true],
    ['javascript:alert(1)', false],
    ['data:text/html,x', false],
    ['https://a b', false],
    ['//a', false],
    ['https://', false],
  ])('%s is a link: %s', (text, wanted) => {
    expect(isLink(text)).toBe(wanted);
  });
});

describe('silences', () => {
  const silence = {
    id: 'i',
    status: { state: 'active' as const },
    matchers: [{ name: 'a', value: 'x"y', isRegex: true, isEqual: false }],
    startsAt: '2026-01-01T00:00:00.000Z',
    endsAt: '2026-01-01T01:00:00.000Z',
    updatedAt: '2026-01-01T00:00:00.000Z',
    createdBy: 'me',
    comment: 'why',
    intervals: [{ weekdays: ['monday'] }],
  };

  test('that ended begin anew', () => {
    expect(seedOf(silence).id).toBe('i');
    const again = seedOf({ ...silence, status: { state: 'expired' } });
    expect([again.id, again.startsMs]).toEqual([undefined, null]);
  });

  test('keep all else when their end moves', () => {
    const moved = ending(silence, Date.parse('2026-01-02T00:00:00Z'));
    expect(moved).toEqual({ id: 'i', matchers: silence.matchers, startsAt: silence.startsAt, endsAt: '2026-01-02T00:00:00.000Z', createdBy: 'me', comment: 'why', intervals: silence.intervals });
    expect(matcherText(silence.matchers[0]!)).toBe('a!~"x\\"y"');
  });

  test('nights are two intervals of one day each, and read back as one', () => {
    const night = { days: [true, true, true, true, true, false, false], start: '22:00', end: '06:00', location: 'Europe/Berlin' };
    const interval = intervalOf(night);
    expect(interval).toEqual({
      weekdays: ['monday:friday'],
      times: [{ start_time: '22:00', end_time: '24:00' }, { start_time: '00:00', end_time: '06:00' }],
      location: 'Europe/Berlin',
    });
    expect(recurrenceOf(interval)).toEqual(night);
  });

  test('until midnight there is no second span', () => {
    const evening = { days: new Array<boolean>(7).fill(true), start: '20:00', end: '00:00', location: 'UTC' };
    expect(intervalOf(evening)).toEqual({ times: [{ start_time: '20:00', end_time: '24:00' }] });
  });

  test('what a form cannot show stays', () => {
    expect(recurrenceOf({ days_of_month: ['1:7'] })).toBeNull();
    expect(recurrenceOf({ times: [{ start_time: '01:00', end_time: '02:00' }, { start_time: '03:00', end_time: '04:00' }] })).toBeNull();
    expect(recurrenceOf({ weekdays: ['someday'] })).toBeNull();
  });

  test('days of the week are ranges', () => {
    expect(daysOf(['saturday:sunday', 'wednesday'])).toEqual([false, false, true, false, false, true, true]);
    expect(daysOf(['sunday:monday'])).toEqual([true, false, false, false, false, false, true]);
  });

  test.each([['', '', true], ['09:00', '24:00', true], ['9:00', '10:00', false], ['09:00', '', false], ['25:00', '26:00', false], ['09:00', '09:00', false]])(
    '%s to %s is a span: %s',
    (start, end, wanted) => {
      expect(isSpan({ start, end })).toBe(wanted);
    },
  );
});

describe('matchers of a silence that is written', () => {
  const matcher = (name: string, value: string, op = '=') => ({ name, value, isRegex: op.endsWith('~'), isEqual: op.startsWith('=') });

  test('are missing where none has a name', () => {
    expect(faultsOf([BLANK])).toEqual({ rows: [null], whole: 'matcher' });
    expect(faultsOf([])).toEqual({ rows: [], whole: 'matcher' });
    expect(faultsOf([matcher('', 'x'), BLANK])).toEqual({ rows: ['label', null], whole: null });
  });

  test('have to be for alerts that have a label', () => {
    const whole = (...matchers: ReturnType<typeof matcher>[]) => faultsOf(matchers).whole;
    expect(whole(matcher('a', ''))).toBe('value');
    expect(whole(matcher('a', '.*', '=~'), matcher('b', 'x', '!='))).toBe('value');
    expect(whole(matcher('a', '', '!='))).toBe(null);
    expect(whole(matcher('a', '.+', '=~'))).toBe(null);
    expect(whole(matcher('a', ''), matcher('b', 'x'), BLANK)).toBe(null);
    // Whether it can be read is the server's to say.
    expect(whole(matcher('a', '(', '=~'))).toBe(null);
  });
});

describe('a rule that is tried', () => {
  const draft: RuleDraft = { name: 'Too busy', expr: 'a\n> 1', holds: '5m', keeps: '', labels: [['severity', 'page'], ['', 'x']], annotations: [['summary', 'say "{{ $value }}": yes']] };

  test('is YAML', () => {
    expect(ruleYaml(draft)).toBe(
      'groups:\n  - name: my-group\n    rules:\n      - alert: "Too busy"\n        expr: |-\n          a\n          > 1\n        for: 5m\n        labels:\n          severity: "page"\n        annotations:\n          summary: "say \\"{{ $value }}\\": yes"\n',
    );
  });

  test('is a group of its own', () => {
    const [first, ...rest] = groupYaml(draft, 'a: b').split('\n');
    expect(first).toBe('name: "a: b"');
    expect(rest.slice(0, 2)).toEqual(['rules:', '  - alert: "Too busy"']);
    expect(ruleYaml(draft, 'a: b')).toContain('  - name: "a: b"\n    rules:\n      - alert: "Too busy"\n');
  });
});

describe('a fault in a group', () => {
  const text = 'name: g\nrules:\n- expr: 磁盘 >\n';
  const at = (line: number, column: number) => {
    const { from, to } = markOf(text, { line, column, message: 'bad', help: null });
    return text.slice(from, to);
  };

  test('is marked from its place to the end of its line', () => {
    expect(at(1, 7)).toBe('g');
    expect(at(3, 9)).toBe('磁盘 >');
    expect(at(3, 99)).toBe('>');
  });

  test('is marked no further than it reaches', () => {
    const { from, to } = markOf(text, { line: 3, column: 9, message: 'bad', help: null, length: 2 });
    expect(text.slice(from, to)).toBe('磁盘');
  });

  test('has a place although the text has changed since', () => {
    expect(at(0, 0)).toBe('name: g');
    expect(at(99, 5)).toBe('');
    expect(markOf('', { line: 3, column: 2, message: 'bad', help: 'do so' }).message).toBe('bad\ndo so');
  });
});

describe('the tree of routes', () => {
  const node = (id: string, ...routes: RouteNode[]): RouteNode => ({
    id, receiver: id, matchers: [], groupBy: [], groupWaitSeconds: 0, groupIntervalSeconds: 0, repeatIntervalSeconds: 0, muteTimeIntervals: [], activeTimeIntervals: [], mutedBy: [], continue: false, firing: 0, routes,
  });
  const root = node('r', node('a', node('b'), node('c')), node('d'));

  test('lies in rows, children beside their parent', () => {
    const { nodes, rows, depth, left } = placed(root);
    expect(nodes.map(({ node: { id }, depth: column, row }) => [id, column, row])).toEqual([['r', 0, 0], ['a', 1, 0], ['b', 2, 0], ['c', 2, 1], ['d', 1, 2]]);
    expect([rows, depth, left]).toEqual([3, 3, 0]);
  });

  test('is cut where it is too large', () => {
    const { nodes, left } = placed(root, 2);
    expect([nodes.length, left]).toEqual([2, 3]);
  });

  test('shows the way to an end', () => {
    expect([...pathTo(placed(root).nodes, new Set(['c']))].sort()).toEqual(['a', 'c', 'r']);
  });
});
