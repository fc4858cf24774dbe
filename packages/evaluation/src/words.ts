/**
 * The words that keys are made of: adjectives and nouns of WordNet 3.0 that the bundled model was trained on.
 *
 * Each is one or two tokens of that model. See `data/NOTICE.md` for the licence.
 */

const splitWords = (lines: string): readonly string[] => lines.trim().split(/\s+/);

/** The 497 adjectives that open a key, in alphabetical order. */
export const ADJECTIVES: readonly string[] = splitWords(`
  able abrupt acceptable accepted accepting accessible according acquired activated actual additional adjusted
  advanced affected affecting aligned alive altered angry another apparent applied appointed arbitrary armed arranged
  artistic arty assigned assumed assuming atomic attached attempted authorized available avid aware backed baked basal
  based becoming benign blessed blocked bodied bony both bowed branched broke broken brownish built buried burned
  burnt calculated callable capable careful carved certain changed changing charged cheap checked civil cleared closed
  clothed coastal coated collected colorless combined committed compatible completed compliant composed concerned
  configured confined confused connected considered consistent contained continued continuous controlled converted
  cooked covered critical cultivated cultural curly cursed curved damaged decided deciduous declared decorated
  decorative defiled defined delicate dense derived described designed desired destroyed detailed detected determined
  developed different difficult digital directed disposed distant distinct divided documented done dressed dried
  driven dropping dumb eastern economic effective efficient elected electrical elementary employed enclosed ended
  engaged equipped escaped eternal every excessive executable executed existing expected explicit exposed expressed
  extended extinct eyed faced fallen falling famous fastened fatal fewer filled finished finite fired fixed fleshy
  flowered footed forced foreign formed fragrant fried fruiting functional genetic geological global golden gone
  granted graven greater greatest greenish grouped grown haired hairy handed handled happy hardened hated headed
  healed heard heated held helpful hidden higher hired honored humorous identical identified ignored immediate
  implicit important imported imposed improved inactive included incorrect increased increasing indirect industrial
  informal inherited inner intended intense interested internal involved joined justified kept kindled known lacking
  laid larger lasting lawful leafy legal legged lifted linear linked listed literary lively loaded lobed located
  logical loved loving made magnetic maintained many marked massive matched matching meaningful measured mechanical
  mental merged mild minded minimal missed missing mixed modified moist monetary mounted moved moving mutable mutual
  needed neither noted numeric numerous observed olden older opened operating opposed optical optional ordered
  organized other outer owned packed paid painful painted paying pending periodic persistent physical pickled pinkish
  pitched placed planned planted played pleasant pleased pointed political popular populated positional powered
  practical preceding precise preferred prepared preserved pressed previous printable procedural processed projecting
  prone proper protected protective proud proved published pure qualified raised random rare readable reasonable
  received recognized recorded recursive reduced referenced registered related remaining removed repeated reported
  requested required reserved respective restricted retained returning righteous rolled rounded ruled sacred said
  satisfied saved sealed searching selected semantic sensible sensory separated sequential serious settled several
  severe shaped shared shiny showy shrubby signed silent silvery similar situated sized skilled slender smaller solar
  sold sorted sought southern specified spent spiny spoken stated stopped strange strict striped strong struck
  structural structured stuck studied subsequent subtle successful successive sudden sufficient suggestive suitable
  supported supposed supreme sworn symbolic taken temperate terminated tested textual threaded thrown tied tiny
  tracked trained treated tried tropical trusted trying tubular turned typical unable undefined underlying unique
  united unlike unsigned unused usable used useful usual vain valid valued various vast verified violent virtual
  visible visual wanted washed weak wicked wooden woody worn wrapped written wrought yellowish
`);

/** The 1198 nouns that close a key, in alphabetical order; none is an adjective of {@link ADJECTIVES}. */
export const NOUNS: readonly string[] = splitWords(`
  ability absence access account ache action activity actor acts addition address affect agency agent algorithm
  allocation allocator altar amount analysis angel anger angle apache appearance appearing apple approach archive area
  argument arms army array arrow arse artery article artist assignment aster atom attack attempt attention attitude
  attribute audience author authority auto background backup balance ball band bank bark bars baseball basis battle
  beam bean bear beast begin behavior being belief bell belonging bill bind bird birth blade blob block blocking blood
  blow board boat body bomb bond bones book border boundary bounds brain branch brass bread breadth break breaking
  breed brethren bridge brother buffer build building burn business butter byte cache cake call callback calling
  capability captain captivity carbon card cards care carry case cast catalog catch cattle cause causing cell century
  cert chain chair change char character charge check checkpoint checksum cheese chemistry chest child chosen church
  circuit city claim class clause clay cleanup client clock clot cloth clothes clothing cloud club cluster coal coast
  coat collation collection collector college colon colors column comb combining come comfort comma command comment
  community comp company compare comparing comparison compass compiler compiling component composer compress computer
  computing concept concern condition conditions conduct confidence conflict connection constraint construct contact
  container contents context contract control convention conversion convert cook cookie cooking copy cord core corn
  corner corruption cost counsel count counting country court cover covering crash cream creation crime crown cult
  culture curse cursor curve cycle damage dance danger darkness data database date daughter days deal dealing death
  decision deck decoding decorator default defense defining definition degree delay delivery demand department
  descriptor desert design desire detail details device devices devil dictionary difference difficulty digest digit
  direction directory disc discussion disease dish disk disorder display distance divide division doctor document
  domain door draw drawing dream drew drink drinking drive driver drop drug dump duration dust dwelling earl earth
  ease eating economy edge editor effect effects effort election element elements email emotion employ encoding ending
  enemy energy engine entering entity entry equality error escape estate estimate evaluation evening event evidence
  evolution exam example exception exchange exec executing execution executor existence exit experience expression
  extension extent extract eyes face facility fact factor factory failure faith fall family famine farm father fault
  favor fear feast feature feed feel feeling feelings felt fern fetch fever fiber field fields fight figure file
  filename fill film filter find finder finding finish fire fish flag flame flavor flesh flight float flock floor
  flour flow flower food fool foot football force forest fork form format formation formatting foundation fraction
  fragment frame framework frequency friend fruit fuel function fungi fungus gain garment gate gates gather generation
  generator genus getting gift give gland glass glob glory goal government governor grace grain grant grass ground
  group growth guarantee guard guide hack hacker hair hall hand handle handler handling hands hang hardware harm hash
  hate have head header health heap heart hearts heat heaven heavens height heir hell help herb hide hill history hold
  holding hole honor honour hook hooks hope horse hose host hour hours house household http humans humor idea
  identifier identity illness image impact implement import importance incense income increase index industry
  infection influence info inhabitant injury input insect insert insertion instance instrument integer interest
  interface internet interval island issue iteration join journal judge judgment jump justice keep keeping keyboard
  kill king kingdom knife know knowledge label labor lack lake lamb lamp land language lass laws layer lead leader
  leaf lease leather leave legacy legs length lens letter letters library life lift limit line link links lion listing
  literature load loader loading locale location lock locking logger logging logic look lookup loop lord loss love
  lower lying machine magnitude mail make making management manager manner mapping mark market marks mask match matter
  meal means measure measuring meat mechanism meeting member memory mercy mess message method midst might milk mill
  mind mine minister miss mode module money month moon morning morrow moth mother motion mount mountain mouse mouth
  move movement multitude muscle music myth mythology name names nation nature neck need nerve network news night node
  noise norm nose notation note notice object offer offering office officer offset oman operand operation operations
  operator opposition option order ordering organ organism origin ouse outcome output overflow override owner oxen
  pace pack package page pain paint painter painting pair palm paper para parameter parent park parser partition parts
  party passage password patch pattern payload payment peace peak people performing period permission person phase
  phrase physics pick pickle piece pine pipe pitch place plan planner planning plant plate platform play player
  playing pleasure poet point pointer police policy pool population portion position possession post powder power
  practice praise prayer precedence precision prefix presence preserve president press pressure prey price priest
  prince principle print printing priority prison privilege problem procedure process processing produce product
  production profile profit program programmer progress project promise prop property prophet protocol provider
  province proxy pull purpose push putting python quantity queen query queue quote race radiation rain raise range
  rate reach reaction read reader reading reality realm reason record recording recovery reek reference refuse regard
  region register registry reign relation relations release religion remainder remains removal remove rent reply
  report reproach request research reset resolution resort resource respect response rest result return reward rewrite
  ring rise risk rite river road rock role roll rollback roof room root roots rope rotation rule ruler sake sale
  sample sand save saying scale scan scene schema scheme school science scope score script search season seat section
  security seed seek segment sell sending sense sentence separator sequence series servant serve server service
  services serving session setting setup shame shape share sheep shell ship shoe shoes shop shoulder show showing
  shrub sian sight signature sister site situation skill skin skip slang slash sleep slew slice slot smoke snake snow
  socket software soil solution someone song sort sorting soul soup source space spam speaker spec species speech
  speed spirit spoke sport spot spreading spring stack staff stage stalk stand start startup state statement station
  statistics status stay steel stem step steps stick stop stops storage store storm story stranger stream street
  strength stress strike string strings strip structure student study style subclass subset substance success suffix
  sugar suit suite summer supply support switch sword symbol syntax system table tail take talk target task tate teach
  teaching team tears technique technology teeth tell temp temper temple tendency tent term terms test testing text
  thanks theater theory thing things think thou thought thread threads throne throw till timber time times tissue
  title tone tool tooth touch town track tract trade traffic trailing train training trait transfer transition
  transport travel treat treatment tree trial tribe trigger trip trouble trunk trust truth tube turn turning type
  typing unction unit unix update usage user using vacuum valley values variety vein verb version vessel vice view
  vine violence virtue vision visit voice volume vote wait walk wall want wash watch water waters wave ways wealth
  wear weed week weight wheat wheel while wickedness widget width wife will wilt wind window windows wine wing wings
  winter wire wish witness woman wood wool work worker works worship wrap wrapper wrath writ writer writing year years
  yield youth zone
`);
