import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Mender } from '../src/lib/live/mender';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

/** A mender whose looks take `tookMs`, and when they began. */
function mending(tookMs = 0): { mender: Mender; looks: number[] } {
  const looks: number[] = [];
  const mender = new Mender(async () => {
    looks.push(performance.now());
    await new Promise((done) => setTimeout(done, tookMs));
  });
  return { mender, looks };
}

test('an interruption is looked up again until the backlog can have come', async () => {
  const { mender, looks } = mending();
  const start = performance.now();
  mender.interrupted();
  expect(mender.isMending).toBe(true);
  await vi.advanceTimersByTimeAsync(300_000);
  expect(looks.map((at) => at - start)).toEqual([0, 5_000, 10_000, 20_000, 35_000, 60_000, 120_000]);
  expect(mender.isMending).toBe(false);
});

test('late samples are looked up when they have come, and while they come', async () => {
  const { mender, looks } = mending();
  mender.late();
  await vi.advanceTimersByTimeAsync(1_000);
  mender.late();
  await vi.advanceTimersByTimeAsync(1_400);
  expect(looks).toHaveLength(0);
  await vi.advanceTimersByTimeAsync(200);
  expect(looks).toHaveLength(1);
  for (let second = 0; second < 30; second++) {
    mender.late();
    await vi.advanceTimersByTimeAsync(1_000);
  }
  expect(looks).toHaveLength(4);
});

test('looks wait for each other, and a closed mender rests', async () => {
  const { mender, looks } = mending(3_000);
  mender.now();
  mender.now();
  mender.now();
  await vi.advanceTimersByTimeAsync(10_000);
  expect(looks).toHaveLength(2);
  mender.interrupted();
  mender.late();
  mender.close();
  await vi.advanceTimersByTimeAsync(300_000);
  expect(looks).toHaveLength(3);
});
