export const h: any;
export function render(what: any, into: Element): void;
export const Fragment: any;
