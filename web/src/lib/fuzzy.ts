/** Fuzzy search in short lists: all letters in order, better when they stand together and early. */

/** Higher is better; null when the needle's letters do not occur in order. */
export function score(needle: string, text: string): number | null {
  const wanted = needle.toLowerCase().replace(/\s+/g, '');
  const hay = text.toLowerCase();
  if (wanted === '') return 0;
  const whole = hay.indexOf(wanted);
  if (whole >= 0) return 1000 - whole - hay.length * 0.01 + (whole === 0 ? 100 : 0);
  let total = 0;
  let at = -1;
  for (const letter of wanted) {
    const next = hay.indexOf(letter, at + 1);
    if (next < 0) return null;
    const atWordStart = next === 0 || !/[a-z0-9]/.test(hay[next - 1] as string);
    total += next === at + 1 ? 12 : atWordStart ? 8 : 1;
    at = next;
  }
  return total - hay.length * 0.01;
}

/** The items that match, best first; with nothing to search for all of them in their own order. */
export function rank<T>(needle: string, items: readonly T[], text: (item: T) => string): T[] {
  if (needle.trim() === '') return [...items];
  return items
    .map((item) => ({ item, score: score(needle, text(item)) }))
    .filter((entry): entry is { item: T; score: number } => entry.score !== null)
    .sort((a, b) => b.score - a.score)
    .map((entry) => entry.item);
}
