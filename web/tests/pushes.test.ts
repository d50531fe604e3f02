import { describe, expect, it } from 'vitest';
import { path, read, type WireGroup } from '../src/pages/pushes/group';

describe('the address of a group', () => {
  it.each([
    [{ job: 'backup' }, '/metrics/job/backup'],
    [{ job: 'backup', instance: 'db-1' }, '/metrics/job/backup/instance/db-1'],
    [{ job: 'a/b' }, '/metrics/job@base64/YS9i'],
    [{ job: '..' }, '/metrics/job@base64/Li4'],
    [{ job: 'x', path: '' }, '/metrics/job/x/path@base64/='],
    [{ job: '主机' }, '/metrics/job@base64/5Li75py6'],
  ])('%j', (labels, expected) => {
    expect(path(labels as Record<string, string>)).toBe(expected);
  });
});

describe('a group as the API tells it', () => {
  const labels = { job: 'backup', instance: 'db-1' };
  const family = (type: string, value: string, extra = {}) => ({
    type,
    help: '',
    time_stamp: '2026-01-01T00:00:00Z',
    metrics: [{ labels: { ...labels, ...extra }, value }],
  });
  const group = read({
    labels,
    last_push_successful: false,
    push_time_seconds: family('GAUGE', '100.5'),
    push_failure_time_seconds: family('GAUGE', '200'),
    rows: family('COUNTER', '3', { table: 'users' }),
    bytes: family('GAUGE', '+Inf'),
  } as unknown as WireGroup);

  it('keeps its own times apart from what was pushed', () => {
    expect([group.succeeded, group.pushed, group.failed]).toEqual([false, 100.5, 200]);
    expect(group.families.map(({ name }) => name)).toEqual(['bytes', 'rows']);
  });
  it('tells the labels of the group once', () => {
    expect(group.families[1]?.metrics).toEqual([{ labels: { table: 'users' }, value: '3' }]);
  });
});
