//! The numbers by which domains name interrupts (PIRQs).

use alloc::vec::Vec;

use xen_abi::errno::Errno;

use crate::base::DomId;

/// What a number of a domain stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Use {
    /// Nothing.
    Free,
    /// Handed out by `PHYSDEVOP_get_free_pirq`, stands for nothing yet.
    Reserved,
    /// A line.
    Line(u32),
}

/// How a domain's numbers relate to lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Numbering {
    /// The number of a line is its GSI (the domain that owns the devices).
    Identity,
    /// Any.
    Free,
}

/// The numbers of one domain.
struct Numbers {
    domain: DomId,
    uses: Vec<Use>,
}

/// The numbers of all domains that have any; few domains do.
pub(super) struct NumberTable {
    domains: Vec<Numbers>,
    /// Number of lines.
    lines: u32,
    /// Numbers that a domain may have.
    limit: u32,
}

impl NumberTable {
    /// No domain has any; `limit` is at least `lines`.
    pub fn new(lines: u32, limit: u32) -> Self {
        Self {
            domains: Vec::new(),
            lines,
            limit,
        }
    }

    /// The line behind a domain's number.
    pub fn line_of(&self, domain: DomId, pirq: u32) -> Option<u32> {
        let found = self.domains.iter().find(|d| d.domain == domain)?;
        match found.uses.get(pirq as usize)? {
            Use::Line(line) => Some(*line),
            Use::Free | Use::Reserved => None,
        }
    }

    /// Gives a line a number in a domain, the wanted one if any; done before, the same again.
    ///
    /// # Errors
    /// `EINVAL` for a number out of range or one that must be another line's, `EEXIST` when number or
    /// line are taken, `ENOSPC`, `ENOMEM`.
    pub fn map(
        &mut self,
        domain: DomId,
        numbering: Numbering,
        line: u32,
        wanted: Option<u32>,
    ) -> Result<u32, Errno> {
        let (lines, limit) = (self.lines, self.limit);
        if wanted.is_some_and(|w| w >= limit) {
            return Err(Errno::EINVAL);
        }
        if numbering == Numbering::Identity && wanted.is_some_and(|w| w < lines && w != line) {
            return Err(Errno::EINVAL);
        }
        let uses = self.of(domain)?;
        if let Some(before) = uses.iter().position(|u| *u == Use::Line(line)) {
            let before = before as u32;
            return match wanted {
                Some(w) if w != before => Err(Errno::EEXIST),
                _ => Ok(before),
            };
        }
        let number = match (wanted, numbering) {
            (Some(w), _) => w,
            (None, Numbering::Identity) => line,
            (None, Numbering::Free) => {
                let free = uses.iter().position(|u| *u == Use::Free);
                free.ok_or(Errno::ENOSPC)? as u32
            }
        };
        match uses.get_mut(number as usize) {
            Some(slot @ (Use::Free | Use::Reserved)) => *slot = Use::Line(line),
            Some(Use::Line(_)) => return Err(Errno::EEXIST),
            None => return Err(Errno::EINVAL),
        }
        Ok(number)
    }

    /// Hands out a number that is not any line's GSI.
    ///
    /// # Errors
    /// `ENOSPC`, `ENOMEM`.
    pub fn reserve(&mut self, domain: DomId) -> Result<u32, Errno> {
        let lines = self.lines as usize;
        let uses = self.of(domain)?;
        let above = uses.iter().enumerate().skip(lines);
        let (number, _) = above
            .into_iter()
            .find(|(_, u)| **u == Use::Free)
            .ok_or(Errno::ENOSPC)?;
        uses[number] = Use::Reserved;
        Ok(number as u32)
    }

    /// Gives `count` message lines numbers that follow each other, above those of the lines: from the wanted one, or
    /// the highest that are free. Gives the first.
    ///
    /// # Errors
    /// `EINVAL` for a wanted number out of range, `EEXIST` for one that is taken, `ENOSPC`, `ENOMEM`.
    pub fn map_messages(
        &mut self,
        domain: DomId,
        line: u32,
        count: u32,
        wanted: Option<u32>,
    ) -> Result<u32, Errno> {
        let (lines, limit) = (self.lines, self.limit);
        let last_start = limit.checked_sub(count).ok_or(Errno::ENOSPC)?;
        let uses = self.of(domain)?;
        let run = |first: u32| first as usize..(first + count) as usize;
        let number = match wanted {
            Some(w) if w < lines || w > last_start => return Err(Errno::EINVAL),
            Some(w) => {
                let taken = |u: &Use| matches!(u, Use::Line(_));
                if uses[run(w)].iter().any(taken) {
                    return Err(Errno::EEXIST);
                }
                w
            }
            None => (lines..=last_start)
                .rev()
                .find(|first| uses[run(*first)].iter().all(|u| *u == Use::Free))
                .ok_or(Errno::ENOSPC)?,
        };
        for (slot, line) in uses[run(number)].iter_mut().zip(line..) {
            *slot = Use::Line(line);
        }
        Ok(number)
    }

    /// The first domain's number that stands for a line.
    pub fn number_of(&self, line: u32) -> Option<(DomId, u32)> {
        self.domains.iter().find_map(|d| {
            let at = d.uses.iter().position(|u| *u == Use::Line(line))?;
            Some((d.domain, at as u32))
        })
    }

    /// Takes a number back; the line that it stood for, if any.
    ///
    /// # Errors
    /// `EINVAL` when it stands for nothing.
    pub fn unmap(&mut self, domain: DomId, pirq: u32) -> Result<Option<u32>, Errno> {
        let found = self.domains.iter_mut().find(|d| d.domain == domain);
        let slot = found.and_then(|d| d.uses.get_mut(pirq as usize));
        match slot {
            None | Some(Use::Free) => Err(Errno::EINVAL),
            Some(slot) => match core::mem::replace(slot, Use::Free) {
                Use::Line(line) => Ok(Some(line)),
                Use::Free | Use::Reserved => Ok(None),
            },
        }
    }

    /// A domain's numbers that stand for lines, with these.
    pub fn mapped(&self, domain: DomId) -> impl Iterator<Item = (u32, u32)> + '_ {
        let found = self.domains.iter().filter(move |d| d.domain == domain);
        found.flat_map(|d| {
            d.uses.iter().enumerate().filter_map(|(n, u)| match u {
                Use::Line(line) => Some((n as u32, *line)),
                Use::Free | Use::Reserved => None,
            })
        })
    }

    /// Forgets all numbers of a domain.
    pub fn forget(&mut self, domain: DomId) {
        self.domains.retain(|d| d.domain != domain);
    }

    /// The numbers of a domain, made when it has none yet.
    fn of(&mut self, domain: DomId) -> Result<&mut Vec<Use>, Errno> {
        let at = match self.domains.iter().position(|d| d.domain == domain) {
            Some(at) => at,
            None => {
                let limit = self.limit as usize;
                let mut uses = Vec::new();
                uses.try_reserve_exact(limit).map_err(|_| Errno::ENOMEM)?;
                uses.resize(limit, Use::Free);
                self.domains.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
                self.domains.push(Numbers { domain, uses });
                self.domains.len() - 1
            }
        };
        Ok(&mut self.domains[at].uses)
    }
}
