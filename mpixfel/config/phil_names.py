"""The PHIL names of the old program's targets (spotfinder, LABELIT, rstbx): what each sets here, or why nothing.

A target is `section.option`. A name that ends in `.*` stands for all below that scope.
"""
from typing import NamedTuple


class PhilName(NamedTuple):
    """One PHIL name: its old default, what it sets ("" for nothing), and its meaning or the reason for no effect."""

    name: str
    default: str
    target: str
    note: str


MAPPED = (
    PhilName("target_cell", "None", "mpixfel.target_cell", "unit cell, where [mpixfel] names no cell file"),
    PhilName("target_cell_centring_type", "P", "mpixfel.target_cell_centring", "its centring: P C I R F"),
    PhilName("known_setting", "None", "mpixfel.known_setting", "1: triclinic; otherwise the cell's metric symmetry"),
    PhilName("isoforms.cell", "None", "mpixfel.target_cell", "one more crystal form"),
    PhilName("isoforms.lookup_symbol", "None", "mpixfel.target_cell_centring",
             "the first letter is the form's centring"),
    PhilName("distl.minimum_spot_area", "None", "spotfinder.minimum_spot_area", "least area of a spot, px"),
    PhilName("distl.minimum_signal_height", "None", "spotfinder.minimum_signal_height", "cut for signal, sigma"),
    PhilName("distl.minimum_spot_height", "None", "spotfinder.minimum_spot_height", "cut for maxima, sigma"),
    PhilName("distl.spot_area_maximum_factor", "None", "spotfinder.spot_area_maximum_factor",
             "largest area, in units of the least"),
    PhilName("distl.peak_intensity_maximum_factor", "None", "spotfinder.peak_intensity_maximum_factor",
             "cut against zingers"),
    PhilName("distl.peripheral_margin", "20", "spotfinder.peripheral_margin", "width of the margin, px"),
    PhilName("distl.scanbox_windows", "101 51 51", "spotfinder.scanbox_windows", "boxes of the three passes, px"),
    PhilName("distl.scanbox_windowsize", "101 51 51", "spotfinder.scanbox_windows", "the same"),
    PhilName("distl.compactness_filter", "False", "spotfinder.compactness_filter", "drop spots that are not compact"),
    PhilName("distl.method2_cutoff_percentage", "20", "spotfinder.method2_cutoff_percentage",
             "share of spots at which the resolution limit lies"),
    PhilName("distl.res.outer", "None", "spotfinder.res_outer", "high-resolution limit, angstrom"),
    PhilName("distl.res.inner", "None", "spotfinder.res_inner", "low-resolution limit, angstrom"),
    PhilName("distl_highres_limit", "None", "spotfinder.res_outer", "the same as distl.res.outer"),
    PhilName("distl_lowres_limit", "50.0", "spotfinder.res_inner", "the same as distl.res.inner"),
    PhilName("force_method2_resolution_limit", "None", "spotfinder.force_method2_resolution_limit",
             "spots are used at least to here, angstrom"),
    PhilName("distl.quad_translations", "None", "mpixfel.quad_translations",
             "quadrants moved, where calib_dir places the panels; px"),
    PhilName("distl.tile_translations", "None", "mpixfel.tile_translations", "ASICs moved, likewise; px"),
    PhilName("integration.subpixel_joint_model.translations", "None", "mpixfel.subpixel_translations",
             "ASICs moved, likewise; px"),
    PhilName("integration.subpixel_joint_model.rotations", "None", "mpixfel.subpixel_rotations",
             "ASICs turned, likewise; degrees"),
    PhilName("distl.tile_flags", "None", "spotfinder.tile_flags", "panels searched, 0 or 1 each"),
    PhilName("distl_profile_bumpiness", "2", "spotfinder.profile_bumpiness", "most local maxima of a good spot"),
    PhilName("overlapping_spot_criterion", "1.2", "spotfinder.overlapping_spot_criterion",
             "isolation of a good spot, in units of its axis"),
)
# Reason: names and their old defaults.
WITHOUT_EFFECT = {
    "a lattice is accepted by statistics, however few or many its spots": """
        distl_minimum_number_spots_for_indexing=40 distl_maximum_number_spots_for_indexing=300""",
    "mosaicity and domain size are fitted, not limited": """
        mosaicity_limit=None integration.mosaic.domain_size_lower_limit=10""",
    "areas of spot and background follow from the spot's shape": """
        integration.guard_width_sq=11 integration.background_factor=1""",
    "reflections are integrated as far as the image shows signal (integration.min_photons)": """
        integration.montecarlo_integration_limit=None""",
    "forms are numbered in the order given": """
        isoforms.name=None""",
    "acceptance is by statistics": """
        isoforms.rmsd_target_mm=None isoforms.beam_restraint=None""",
    "panels lie where the geometry file says": """
        distl.detector_format_version=None distl.detector_tiling=None spotfinder_header_tests=True
        convention_override=None spot_convention=None integration.use_subpixel_translations=None""",
    "a choice of the old program's printing and files": """
        distl.verbose=False distl.verbosity=1 distl.bins.verbose=False distl.bins.N=20 distl.bins.corner=True
        distl.pdf_output=None distl.csv=None distl.plot.file_name=None spotfinder_verbose=False distl.range=None
        pdf_output.*= distl.image=None distl_report_overloads=True distl_keep_Zdata=True
        distl_keep_bkg_data=False indexing.verbose_cv=False indexing.indexing_pickle=None
        indexing.completeness_pickle=None indexing.outlier_detection.verbose=False
        indexing.outlier_detection.pdf=None difflimit_verbose=0 integration.spot_shape_verbose=False
        integration.enable_residual_map=False integration.enable_residual_map_deltapsi=False
        integration.enable_residual_scatter=False integration.graphics_backend=screen
        integration.pdf_output_dir=.""",
    "mpixfel view shows images": """
        distl.image_viewer=False viewer.*= powder_arcs.*= calibrate_silver=False calibrate_pdb.*=
        calibrate_unitcell.*= indexing.open_wx_viewer=False indexing.plot_search_scope=False
        indexing.mm_search_scope=4.0""",
    "mpirun says how many processes there are": """
        distl.port=8125 distl.processors=1 distl.nproc=1 parallel=0""",
    "images are never binned": """
        distl_permit_binning=True distl_force_binning=False distl_binned_image_spot_size=4""",
    "sources are read as the geometry file describes them": """
        distl.dxtbx=False""",
    "hitfinding.finder chooses the finder": """
        spotfinder=distl spotfinder_mode=distl speckfinder.*=""",
    "spots are placed by their centre of mass": """
        distl_spotcenter_algorithm=center_of_mass""",
    "overlaps are judged spot by spot": """
        percent_overlap_forcing_detail=30.""",
    "mpixfel.source names the files": """
        indexing.data=None""",
    "part of the old indexing method": """
        indexing.lattice_model_scoring_cutoff=2.0 indexing.devel_algorithm=None
        indexing.improve_local_scope=origin_offset lepage_max_delta=1.4 rmsd_tolerance=2.0
        mosflm_rmsd_tolerance=2.0 beam_search_scope=4.0 best_support=False codecamp.maxcell=None
        codecamp.minimum_spot_count=None known_cell=None known_symmetry=None wedgelimit=2 cell_maximum=None
        autoindex_override_maxcell=None model_refinement_minimum_N=10""",
    "outliers are always found and left out": """
        indexing.outlier_detection.allow=True""",
    "the old program's temporary files": """
        spots_pickle=./DISTL_pickle subgroups_pickle=None refinements_pickle=None
        override_pickled_spotfinders=True predictions_file=""",
    "the geometry file says it, and the run learns the rest": """
        autoindex_override_beam=None autoindex_override_distance=None autoindex_override_wavelength=None
        autoindex_override_twotheta=None""",
    "a still is one image without rotation": """
        autoindex_override_deltaphi=None image_specific_osc_start=None goniometer_rotation=""",
    "the resolution limit follows from the signal itself": """
        difflimit_sigma_cutoff=1.5 mosflm_integration_reslimit_override=None
        mosflm_safety_algorithm=tomita_dalton""",
    "gain is given by adu_per_photon or adu_per_eV of the geometry file": """
        integration.detector_gain=0.0""",
    "masks, and flag_equal of the geometry file, mark such pixels": """
        integration.mask_pixel_value=None""",
    "part of the old way of prediction": """
        integration.model=rossmann1979jac12-225 integration.rocking_curve=none integration.mosaicity_deg=0.0
        integration.spot_prediction=ucbp3 integration.initial_volume_factor=1.8
        integration.greedy_integration_limit=False integration.combine_sym_constraints_and_3D_target=False
        integration.enable_one_to_one_safeguard=False integration.dials_refinement.strategy=distance""",
    "the sensor's thickness is given with the detector": """
        integration.signal_penetration=0.5""",
    "all peaks that fit the lattice are used": """
        integration.spotfinder_subset=inlier_spots""",
    "the model of mosaicity and domain size is always fitted, by maximum likelihood": """
        integration.mosaic.refinement_target=ML integration.mosaic.kludge1=1
        integration.mosaic.bugfix2_enable=True integration.mosaic.enable_rotational_target_highsym=True
        integration.mosaic.enable_rotational_target_triclinic=True integration.mosaic.enable_simplex=False
        integration.mosaic.enable_AD14F7B=False integration.mosaic.enable_polychromatic=False
        integration.mosaic.ewald_proximal_volume_resolution_cutoff=2.5""",
    "[mpixfel] says what is processed": """
        integration.file_template=None integration.file_range=None""",
    "sample and fixed-target absorption are not corrected": """
        integration.absorption_correction.*=""",
    "several lattices are always looked for (indexing.max_lattices)": """
        indexing.outlier_detection.switch=False indexing.outlier_detection_switch=False""",
}
NAMES = {p.name: p for p in MAPPED} | {
    name: PhilName(name, default, "", reason)
    for reason, names in WITHOUT_EFFECT.items() for name, _, default in (word.partition("=") for word in names.split())}


def find(name):
    """The entry of a PHIL name, or None."""
    if name in NAMES:
        return NAMES[name]
    parts = name.split(".")
    return next((NAMES[scope] for i in range(len(parts), 0, -1)
                 if (scope := ".".join(parts[:i]) + ".*") in NAMES), None)
