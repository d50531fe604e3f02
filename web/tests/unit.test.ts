import { describe, expect, it } from 'vitest';
import { boundsUnitOf, common, unitOf } from '../src/lib/explore/unit';

describe('units of queries', () => {
  it('follow from the name of the metric and what is done to it', () => {
    const cases: [string, string][] = [
      ['node_memory_MemAvailable_bytes', 'bytes'],
      ['sum by (instance) (node_memory_MemAvailable_bytes{job="node_seconds"})', 'bytes'],
      ['topk(5, node_top_process_resident_bytes)', 'bytes'],
      ['max_over_time(x_bytes[5m] offset 1h) > 5', 'bytes'],
      ['rate(node_network_receive_bytes_total{device!="lo"}[1m])', 'bytesPerSecond'],
      ['sum by (device) (irate(node_network_receive_bytes_total[1m]))', 'bytesPerSecond'],
      ['histogram_quantile(0.9, sum by (le) (rate(shop_request_seconds_bucket[1m])))', 'seconds'],
      ['histogram_quantile(0.9, sum(rate(pay_duration_seconds[1m])))', 'seconds'],
      ['increase(pause_seconds_total[1h])', 'seconds'],
    ];
    for (const [expr, unit] of cases) expect([expr, unitOf(expr)]).toEqual([expr, unit]);
  });

  it('are none where nothing is certain', () => {
    for (const expr of [
      'up', '', 'rate(node_cpu_seconds_total[1m])', 'a_bytes / b_bytes', '8 * rate(x_bytes_total[1m])', 'count(x_bytes)', 'rate(x_seconds_bucket[1m])',
      'rate(x_seconds_count[1m])', 'x_bytes > bool 5', 'deriv(rate(x_bytes[1m])[5m:])', 'a_bytes or b_seconds', 'timestamp(x_bytes)', 'ln(x_bytes)',
    ]) expect([expr, unitOf(expr)]).toEqual([expr, 'number']);
  });

  it('of buckets are those of what was observed', () => {
    expect(boundsUnitOf('sum by (le) (rate(shop_request_seconds_bucket[1m]))')).toBe('seconds');
    expect(boundsUnitOf('sum(rate(size_bytes[1m]))')).toBe('bytes');
    expect(boundsUnitOf('sum(rate(requests[1m]))')).toBe('number');
    expect([common(['bytes', 'bytes']), common(['bytes', 'seconds']), common([])]).toEqual(['bytes', 'number', 'number']);
  });
});
