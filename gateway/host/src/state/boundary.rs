//! Values in a guest's linear memory, as the canonical ABI lays them out. Nothing that the guest says of them is believed: places are checked for their bounds
//! and their alignment, text for UTF-8, and what is read in one call is bounded. The errors are those of wasmtime.

use wasmtime::{AsContextMut, Caller, Instance, Memory, Result, Store, Trap, TypedFunc, bail, ensure};

use super::State;

/// So many bytes may be read of a guest's values in one call, as with wasmtime's calls on components: lists may name the same bytes many times.
const FUEL: usize = 128 << 20;

/// A pointer and a length.
pub(crate) type Span = (u32, u32);

/// A guest's memory, and what allocates in it.
#[derive(Clone)]
pub(crate) struct Boundary {
    memory: Memory,
    realloc: TypedFunc<(u32, u32, u32, u32), u32>,
}

impl Boundary {
    pub(crate) fn of(instance: &Instance, store: &mut Store<State>) -> Result<Self> {
        let Some(memory) = instance.get_memory(&mut *store, "memory") else { bail!("it exports no memory") };
        Ok(Self { memory, realloc: instance.get_typed_func(&mut *store, "cabi_realloc")? })
    }

    /// Has the guest allocate.
    pub(crate) fn allocate(&self, mut store: impl AsContextMut<Data = State>, align: u32, size: usize) -> Result<u32> {
        let Ok(size) = u32::try_from(size) else { bail!("too much for the guest's memory") };
        store.as_context_mut().data_mut().may_leave = false;
        let at = self.realloc.call(&mut store, (0, 0, align, size))?;
        store.as_context_mut().data_mut().may_leave = true;
        ensure!(at.is_multiple_of(align), "realloc return: result not aligned");
        let end = u64::from(at) + u64::from(size);
        ensure!(end <= self.memory.data_size(&store) as u64, "realloc return: beyond end of memory");
        Ok(at)
    }

    /// Writes where the guest has allocated.
    pub(crate) fn write(&self, mut store: impl AsContextMut<Data = State>, at: u32, bytes: &[u8]) -> Result<()> {
        let memory = self.memory.data_mut(&mut store);
        let Some(room) = memory.get_mut(at as usize..).and_then(|memory| memory.get_mut(..bytes.len())) else {
            bail!("pointer out of bounds of memory")
        };
        room.copy_from_slice(bytes);
        Ok(())
    }

    /// Gives the guest bytes of its own.
    pub(crate) fn bytes(&self, mut store: impl AsContextMut<Data = State>, bytes: &[u8]) -> Result<Span> {
        let at = self.allocate(&mut store, 1, bytes.len())?;
        self.write(&mut store, at, bytes)?;
        Ok((at, u32::try_from(bytes.len())?))
    }

    /// Gives the guest a string of its own.
    #[inline]
    pub(crate) fn text(&self, store: impl AsContextMut<Data = State>, text: &str) -> Result<Span> {
        self.bytes(store, text.as_bytes())
    }

    /// Writes numbers one behind the other.
    pub(crate) fn numbers<const N: usize>(&self, mut store: impl AsContextMut<Data = State>, at: u32, numbers: [u32; N]) -> Result<()> {
        let mut at = at;
        for number in numbers {
            self.write(&mut store, at, &number.to_le_bytes())?;
            at = at.wrapping_add(4);
        }
        Ok(())
    }

    /// Gives the guest a string of its own, whose pointer and length are written to `at`.
    pub(crate) fn text_to(&self, mut store: impl AsContextMut<Data = State>, at: u32, text: &str) -> Result<()> {
        let (pointer, length) = self.text(&mut store, text)?;
        self.numbers(&mut store, at, [pointer, length])
    }

    /// Gives the guest a string that there may not be: its discriminant is written to `at`, and what follows only if there is one.
    pub(crate) fn option_to(&self, mut store: impl AsContextMut<Data = State>, at: u32, text: Option<&str>) -> Result<()> {
        self.write(&mut store, at, &[u8::from(text.is_some())])?;
        text.map_or(Ok(()), |text| self.text_to(&mut store, at.wrapping_add(4), text))
    }

    /// The guest's memory, to read values of.
    #[inline]
    pub(crate) fn view<'s>(&self, store: &'s Store<State>) -> View<'s> {
        View::new(self.memory.data(store))
    }

    /// The memory of a guest that is calling, to read values of, and its state.
    pub(crate) fn of_caller<'s>(caller: &'s mut Caller<'_, State>) -> Result<(View<'s>, &'s mut State)> {
        let memory = caller.data().boundary.as_ref().map(|boundary| boundary.memory);
        // A start function has no memory to speak of yet.
        let Some(memory) = memory else { bail!(Trap::CannotEnterComponent) };
        let (memory, state) = memory.data_and_store_mut(caller);
        Ok((View::new(memory), state))
    }
}

/// A guest's memory, as far as a call may read of it.
pub(crate) struct View<'m> {
    memory: &'m [u8],
    fuel: usize,
}

impl<'m> View<'m> {
    #[inline]
    pub(crate) fn new(memory: &'m [u8]) -> Self {
        Self { memory, fuel: FUEL }
    }

    /// Limits what may be read to so many bytes.
    pub(crate) fn limit(&mut self, bytes: usize) {
        self.fuel = bytes;
    }

    /// A value of `N` bytes that begins at a multiple of `align`.
    #[inline]
    fn array<const N: usize>(&self, at: u32) -> Result<[u8; N]> {
        let found = self.memory.get(at as usize..).and_then(<[u8]>::first_chunk);
        let Some(found) = found else { bail!("pointer out of bounds of memory") };
        Ok(*found)
    }

    /// Checks a pointer to a record or variant of this size and alignment, whose parts are then read one by one.
    #[inline]
    pub(crate) fn place(&self, at: u32, size: u32, align: u32) -> Result<u32> {
        ensure!(at.is_multiple_of(align), "pointer not aligned");
        ensure!(u64::from(at) + u64::from(size) <= self.memory.len() as u64, "pointer out of bounds of memory");
        Ok(at)
    }

    /// Checks the pointer to where a guest wants a result.
    pub(crate) fn result(&self, at: u32, size: u32, align: u32) -> Result<()> {
        ensure!(at.is_multiple_of(align), "pointer not aligned");
        ensure!(u64::from(at) + u64::from(size) <= self.memory.len() as u64, "pointer out of bounds");
        Ok(())
    }

    #[inline]
    pub(crate) fn u8(&self, at: u32) -> Result<u8> {
        self.array(at).map(u8::from_le_bytes)
    }

    #[inline]
    pub(crate) fn u16(&self, at: u32) -> Result<u16> {
        self.array(at).map(u16::from_le_bytes)
    }

    #[inline]
    pub(crate) fn u32(&self, at: u32) -> Result<u32> {
        self.array(at).map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&self, at: u32) -> Result<u64> {
        self.array(at).map(u64::from_le_bytes)
    }

    pub(crate) fn bool(&self, at: u32) -> Result<bool> {
        self.u8(at).map(|byte| byte != 0)
    }

    /// The discriminant of a variant or enumeration with so many cases.
    #[inline]
    pub(crate) fn case(&self, at: u32, cases: u8) -> Result<u8> {
        let case = self.u8(at)?;
        ensure!(case < cases, "unexpected discriminant: {case}");
        Ok(case)
    }

    /// The pointer and the length of a string or list.
    #[inline]
    pub(crate) fn span(&self, at: u32) -> Result<Span> {
        Ok((self.u32(at)?, self.u32(at.saturating_add(4))?))
    }

    /// The places of a list's elements.
    pub(crate) fn list(&mut self, (at, count): Span, size: u32, align: u32) -> Result<impl ExactSizeIterator<Item = u32> + use<'m>> {
        let bytes = u64::from(count) * u64::from(size);
        ensure!(u64::from(at) + bytes <= self.memory.len() as u64, "list pointer/length out of bounds of memory");
        ensure!(at.is_multiple_of(align), "list pointer is not aligned");
        self.spend(bytes)?;
        // They are within the memory, so no place overflows.
        Ok((0..count).map(move |index| at.wrapping_add(index.wrapping_mul(size))))
    }

    /// A list of bytes.
    pub(crate) fn bytes(&mut self, (at, count): Span) -> Result<&'m [u8]> {
        let found = self.memory.get(at as usize..).and_then(|memory| memory.get(..count as usize));
        let Some(found) = found else { bail!("list pointer/length out of bounds of memory") };
        self.spend(u64::from(count))?;
        Ok(found)
    }

    pub(crate) fn text(&mut self, (at, count): Span) -> Result<&'m str> {
        let found = self.memory.get(at as usize..).and_then(|memory| memory.get(..count as usize));
        let Some(found) = found else { bail!("string pointer/length out of bounds of memory") };
        self.spend(u64::from(count))?;
        Ok(std::str::from_utf8(found)?)
    }

    /// The string whose pointer and length are here.
    pub(crate) fn text_at(&mut self, at: u32) -> Result<&'m str> {
        let span = self.span(at)?;
        self.text(span)
    }

    /// The list of strings whose pointer and length are here.
    pub(crate) fn texts_at(&mut self, at: u32) -> Result<Vec<String>> {
        let span = self.span(at)?;
        self.texts(span)
    }

    pub(crate) fn texts(&mut self, span: Span) -> Result<Vec<String>> {
        let places = self.list(span, 8, 4)?;
        places.map(|at| self.text_at(at).map(str::to_owned)).collect()
    }

    fn spend(&mut self, bytes: u64) -> Result<()> {
        let left = usize::try_from(bytes).ok().and_then(|bytes| self.fuel.checked_sub(bytes));
        let Some(left) = left else { bail!("fuel allocated for hostcalls has been exhausted") };
        self.fuel = left;
        Ok(())
    }
}
