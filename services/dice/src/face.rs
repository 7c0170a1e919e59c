//! The faces of a die: thrown, asked for, drawn.

/// One face, 1 to 6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Face(u8);

/// Why an address shows no face.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FaceError {
    #[error("a die has the faces 1 to 6, and no {0}")]
    NoSuchFace(String),
    #[error("there is nothing at this address; / throws a die and /1 to /6 show a face")]
    NotANumber,
}

impl Face {
    pub const ALL: [Self; 6] = [Self(1), Self(2), Self(3), Self(4), Self(5), Self(6)];

    /// The face that chance picks; `draw` gives an index below six.
    pub fn thrown(draw: impl FnOnce(usize) -> usize) -> Self {
        Self::ALL[draw(Self::ALL.len())]
    }

    /// The face that `text` asks for.
    pub fn parse(text: &str) -> Result<Self, FaceError> {
        let digits = text.contains(|character: char| character.is_ascii_digit());
        if !digits || text.parse::<f64>().is_err() {
            return Err(FaceError::NotANumber);
        }
        let face = Self::ALL.into_iter().find(|face| face.0.to_string() == text);
        face.ok_or_else(|| FaceError::NoSuchFace(text.to_owned()))
    }

    pub fn number(self) -> u8 {
        self.0
    }

    /// Where the pips are: three rows, each left, middle, right.
    pub fn pips(self) -> [[bool; 3]; 3] {
        let (corner, other_corner, side, centre) =
            (self.0 > 1, self.0 > 3, self.0 == 6, self.0 % 2 == 1);
        [[corner, false, other_corner], [side, centre, side], [other_corner, false, corner]]
    }

    /// Five lines of text, as a terminal shows a die.
    pub fn art(self) -> String {
        let row = |pips: [bool; 3]| {
            let [left, middle, right] = pips.map(|pip| if pip { 'o' } else { ' ' });
            format!("| {left}{middle}{right} |\n")
        };
        format!(" -----\n{} -----\n", self.pips().map(row).concat())
    }
}

#[cfg(test)]
mod tests {
    use rand::RngExt;

    use super::*;

    #[test]
    fn a_five_has_its_pips_in_the_corners_and_the_centre() {
        assert_eq!(Face(5).art(), " -----\n| o o |\n|  o  |\n| o o |\n -----\n");
    }

    #[test]
    fn a_face_has_as_many_pips_as_its_number() {
        for face in Face::ALL {
            let pips = face.pips().concat().into_iter().filter(|pip| *pip).count();
            assert_eq!(pips, usize::from(face.number()), "{face:?}");
            assert_eq!(face.art().matches('o').count(), pips, "{face:?}");
            assert_eq!(face.art().lines().count(), 5, "{face:?}");
        }
    }

    #[test]
    fn only_one_to_six_are_faces() {
        assert_eq!(Face::parse("1"), Ok(Face(1)));
        assert_eq!(Face::parse("6"), Ok(Face(6)));
        for number in ["0", "7", "-1", "1.5", "01", "+1", "99999999999999999999", "1e3"] {
            assert_eq!(Face::parse(number), Err(FaceError::NoSuchFace(number.into())));
        }
        for other in ["", "six", "2d6", "1x", "inf", "NaN", "½", "-", "+inf", "-nan-"] {
            assert_eq!(Face::parse(other), Err(FaceError::NotANumber), "{other}");
        }
    }

    /// Pearson's statistic of a fair die over `throws`.
    fn chi_squared(throws: u32, mut throw: impl FnMut() -> Face) -> f64 {
        let mut counts = [0_u32; 6];
        for _ in 0..throws {
            counts[usize::from(throw().number() - 1)] += 1;
        }
        let expected = f64::from(throws) / 6.0;
        counts.iter().map(|count| (f64::from(*count) - expected).powi(2) / expected).sum()
    }

    /// With five degrees of freedom a fair die is beyond this once in a million runs.
    const LIMIT: f64 = 35.9;

    #[test]
    fn throws_are_uniform() {
        let mut chance = rand::rng();
        let statistic =
            chi_squared(600_000, || Face::thrown(|faces| chance.random_range(0..faces)));
        assert!(statistic < LIMIT, "chi squared is {statistic}");
    }

    #[test]
    fn a_die_that_is_loaded_by_two_percent_is_found_out() {
        let mut chance = rand::rng();
        let statistic = chi_squared(600_000, || {
            if chance.random_range(0..50) == 0 {
                return Face(6);
            }
            Face::thrown(|faces| chance.random_range(0..faces))
        });
        assert!(statistic > LIMIT, "chi squared is {statistic}");
    }
}
