/** Fades the side of a region behind which there is more: scroll bars are often hidden until one scrolls. */
export function sideways(region: HTMLElement): () => void {
  const look = () => {
    const { scrollLeft, scrollWidth, clientWidth } = region;
    region.classList.toggle('more-right', scrollWidth - clientWidth - scrollLeft > 2);
  };
  const watch = new ResizeObserver(look);
  watch.observe(region);
  for (const child of region.children) watch.observe(child);
  region.addEventListener('scroll', look, { passive: true });
  look();
  return () => {
    watch.disconnect();
    region.removeEventListener('scroll', look);
  };
}
